"""A site with Secure Boot, in a project of its own, and keys made for it."""

from __future__ import annotations

from tests.build.command import Place

SITE = "secure"


def add_secure_site(place: Place) -> None:
    """Add the site to a project: that of Debian, with keys made in `place.top`."""
    place.run("keys", "secure-boot", "--to", str(place.top / "keys")).done()
    debian = (place.project / "config/sites/debian.yaml").read_text()
    place.write(f"config/sites/{SITE}.yaml", debian + signing(place))


def signing(place: Place, folder: str = "keys") -> str:
    """Return the key of the site."""
    keys = place.top / folder
    return f"""
secure_boot:
  key: {keys}/db.key
  certificate: {keys}/db.crt
  enrol: {keys}
  enrolment: force
"""
