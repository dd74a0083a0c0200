"""A profile that encrypts `var`, and keys by which TPMs know a site's images."""

from __future__ import annotations

from tests.build.command import Place

PROFILE = "sealed"
_PROFILE = """\
extends: bare
description: the operating system alone, with an encrypted var
disk:
  encrypt_var: tpm
"""


def add_profile(place: Place) -> None:
    """Add the profile to a project."""
    place.write(f"config/profiles/{PROFILE}.yaml", _PROFILE)


def add_pcr_key(place: Place, site: str, folder: str = "pcr") -> None:
    """Let a site sign by a new key in a folder below `place.top`, in the place of any other."""
    place.run("keys", "pcr", "--to", str(place.top / folder)).done()
    sign_with(place, site, folder)


def sign_with(place: Place, site: str, folder: str) -> None:
    """Let a site sign by the key in a folder below `place.top`."""
    path = place.project / f"config/sites/{site}.yaml"
    others = [line for line in path.read_text().splitlines() if not line.startswith("pcr_key:")]
    key, public = (place.top / folder / name for name in ("pcr.key", "pcr.pub"))
    path.write_text("\n".join([*others, f"pcr_key: {{key: {key}, public_key: {public}}}", ""]))
