"""How the entry that booted stands, and which others there are."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from imgnode.bootentries import entries
from imgnode.identity import read_entry


@dataclass(frozen=True)
class Trial:
    """How this boot's version stands: `left` tries are left, None when it counts as good.

    `others` are the other entries that the boot loader still starts by itself.
    """

    left: int | None
    others: tuple[str, ...]


def read_trial(root: Path = Path("/")) -> Trial:
    """Return how the entry that booted stands now; a blessed one has lost its counter."""
    entry = read_entry(root)
    mine = Path(entry.replace("\\", "/")).name if entry else ""
    try:
        found = entries(root)
    except OSError:
        found = ()
    left = next((one.left for one in found if one.path.name == mine), None)
    stem = mine.partition("+")[0]
    others = [one.path.name for one in found if one.bootable and one.stem != stem]
    return Trial(left, tuple(others))
