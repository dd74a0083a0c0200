"""A profile that encrypts `var`, and a site whose images TPMs know, in a project of their own."""

from __future__ import annotations

from tests.build.command import Place

PROFILE, SITE = "sealed", "sealing"
_PROFILE = """\
extends: bare
description: the operating system alone, with an encrypted var
disk:
  encrypt_var: tpm
"""


def add_encryption(place: Place) -> None:
    """Add profile and site to a project, with a key made in `place.top`."""
    place.run("keys", "pcr", "--to", str(place.top / "pcr")).done()
    place.write(f"config/profiles/{PROFILE}.yaml", _PROFILE)
    sign_with(place, "pcr")


def sign_with(place: Place, keys: str) -> None:
    """Let the site sign by the key in a folder below `place.top`."""
    debian = (place.project / "config/sites/debian.yaml").read_text()
    folder = place.top / keys
    said = f"pcr_key: {{key: {folder}/pcr.key, public_key: {folder}/pcr.pub}}\n"
    place.write(f"config/sites/{SITE}.yaml", debian + said)
