"""Mends Docker's store where dockerd must see it: between its stop and its start."""

from __future__ import annotations

from pathlib import Path

from imgnode import process
from imgnode.layers.apply import apply
from imgnode.layers.report import Report

_STOP_S = 150  # dockerd gives each container 10 s
_START_S = 120


def heal(root: Path = Path("/")) -> Report:
    """Stop Docker with all its containers, apply, start Docker, whatever was found.

    The socket stops too: whoever calls it would start dockerd in the middle. Returns what
    apply found; whether dockerd came up is for the caller to see. Raises OSError as apply.
    """
    process.run(["systemctl", "stop", "docker.socket", "docker.service"], timeout_s=_STOP_S)
    try:
        return apply(root)
    finally:
        process.run(["systemctl", "start", "docker.service"], timeout_s=_START_S)
