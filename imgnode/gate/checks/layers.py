"""The layer files of this version: mounted, and whole as far as they were read."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from imgnode.gate.attribution import LAYERS
from imgnode.gate.finding import EXTERNAL, IMAGE, Finding, Look
from imgnode.layers.look import look
from imgnode.layers.report import Outcome, State, label

_WHOSE = {State.MISSING: EXTERNAL, State.CORRUPT: IMAGE, State.FAILED: IMAGE}
_HINT = {
    State.MISSING: "journalctl -b -u imgnode-layers: from where, and why not; imgnode layers apply",
    State.CORRUPT: "imgnode layers verify --repair",
    State.FAILED: "journalctl -b -u imgnode-layers",
}


@dataclass(frozen=True)
class LayersCheck:
    """Whether what lies outside the root is there; what could not be fetched is no fault of it."""

    root: Path = Path("/")
    name: str = LAYERS
    limit_s: float = 0

    def look(self) -> Look:
        """Look once."""
        return Look(tuple(_bad(one) for one in look(self.root) if one.state is not State.MOUNTED))


def _bad(one: Outcome) -> Finding:
    fact = f"{label(one.file, one.what)} is {one.state}"
    return Finding(LAYERS, _WHOSE[one.state], fact, _HINT[one.state])
