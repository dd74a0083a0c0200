"""A node with GPUs without its container, which would cost gigabytes and add nothing here."""

from __future__ import annotations

from tests.build.command import Place

NAME = "a100-os"
PROFILE = """\
extends: a100
description: profile a100 without its container
container: null
"""


def add_gpu_os(place: Place) -> None:
    """Add the profile to a project."""
    place.write(f"config/profiles/{NAME}.yaml", PROFILE)
