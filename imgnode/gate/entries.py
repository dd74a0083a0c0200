"""Boot entries with their counters, as systemd-boot(7) and systemd-bless-boot(8) name them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from imgnode.identity import read_entry

_ESP = Path("boot")
_FOLDER = _ESP / "EFI/Linux"
_NAME = re.compile(r"(?P<stem>[^+/]+)(\+(?P<left>\d+)(-\d+)?)?\.efi")


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
        names = sorted(path.name for path in (root / _FOLDER).iterdir())
    except OSError:
        names = []
    found = {name: match for name in names if (match := _NAME.fullmatch(name))}
    left = found[mine]["left"] if mine in found else None
    stem = mine.partition("+")[0]
    others = [name for name, one in found.items() if one["left"] != "0" and one["stem"] != stem]
    return Trial(None if left is None else int(left), tuple(others))
