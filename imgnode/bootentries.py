"""Boot entries on the ESP, with their counters (systemd-boot(7), systemd-bless-boot(8))."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ENTRIES = Path("boot/EFI/Linux")
_COUNTED = re.compile(r"(?P<stem>[^+/]+)(\+(?P<left>\d+)(-\d+)?)?\.efi")


@dataclass(frozen=True)
class Entry:
    """A UKI on the ESP; `left` tries are left, None for a version that is good."""

    path: Path
    stem: str
    left: int | None

    @property
    def bootable(self) -> bool:
        """Whether the boot loader still starts it by itself."""
        return self.left != 0


def entries(root: Path = Path("/")) -> tuple[Entry, ...]:
    """Return the boot entries on the ESP, sorted by name. Raises OSError."""
    found = []
    for path in sorted((root / ENTRIES).iterdir()):
        match = _COUNTED.fullmatch(path.name)
        if match and not path.name.startswith("."):
            left = match["left"]
            found.append(Entry(path, match["stem"], None if left is None else int(left)))
    return tuple(found)


def entry_of(stem: str, root: Path = Path("/")) -> Entry | None:
    """Return the boot entry of a version. Raises OSError."""
    return next((entry for entry in entries(root) if entry.stem == stem), None)
