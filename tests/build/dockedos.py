"""A node with Docker but no inference container: small, and all that guards a node is there."""

from __future__ import annotations

from tests.build.command import Place

NAME = "docked"
PROFILE = """\
extends: bare
description: profile bare with Docker
packages:
  roles: [base, boot, seed, ssh, container]
overlays: [base, boot, seed, ssh, security, container]
"""


def add_docked_os(place: Place) -> None:
    """Add the profile to a project."""
    place.write(f"config/profiles/{NAME}.yaml", PROFILE)
