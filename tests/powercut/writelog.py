"""Reads what QEMU's blklogwrites driver writes: each write and flush of a disk, in order.

The format is that of dm-log-writes (kernel: admin-guide/device-mapper/log-writes, "Log Ordering";
QEMU: block/blklogwrites.c): a superblock, then for each entry one sector that describes it,
followed by its data.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

SECTOR = 512
_MAGIC, _VERSION = 0x6A736677736872, 1
_SUPER = struct.Struct("<QQQI")
_ENTRY = struct.Struct("<QQQQ")
_FLUSH, _FUA, _DISCARD, _MARK = 1, 2, 4, 8


@dataclass(frozen=True)
class Entry:
    """One request: `start` and `size` on the disk and `data`, where its bytes lie in the log.

    All in bytes. `data` is None for what has none: a discard, or a flush alone. `at` is where the
    entry itself lies in the log.
    """

    at: int
    start: int
    size: int
    data: int | None
    flush: bool

    def touches(self, start: int, size: int) -> bool:
        """Tell whether it changes bytes of a range of the disk."""
        return self.size > 0 and self.start < start + size and start < self.start + self.size


class WriteLog:
    """The entries of a log, whose machine is switched off, and their data."""

    def __init__(self, path: Path) -> None:
        """Read all entries. Raises ValueError for a file that is no such log."""
        self.path = path
        self.entries = tuple(_entries(path))

    def index(self, at: int) -> int:
        """Return the number of the first entry that lies at byte `at` of the log or later."""
        return next((i for i, one in enumerate(self.entries) if one.at >= at), len(self.entries))


def _entries(path: Path) -> Iterator[Entry]:
    with path.open("rb") as stream:
        head = stream.read(_SUPER.size).ljust(_SUPER.size, b"\0")
        magic, version, count, sector = _SUPER.unpack(head)
        if (magic, version, sector) != (_MAGIC, _VERSION, SECTOR):
            raise ValueError(f"{path}: is no write log with {SECTOR}-byte sectors")
        at = SECTOR
        for _ in range(count):
            stream.seek(at)
            words = stream.read(_ENTRY.size)
            if len(words) < _ENTRY.size:
                raise ValueError(f"{path}: ends within entry {at}")
            start, sectors, flags, _ = _ENTRY.unpack(words)
            has_data = sectors > 0 and not flags & (_DISCARD | _MARK)
            data = at + SECTOR if has_data else None
            size = sectors * SECTOR
            yield Entry(at, start * SECTOR, size, data, bool(flags & (_FLUSH | _FUA)))
            at += SECTOR + (size if has_data else 0)
