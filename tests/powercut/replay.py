"""The disk as a power cut left it: one file that follows the log, is changed, and restored."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from tests.powercut.cuts import Cut, Piece, last_flush, survivors
from tests.powercut.sparse import copy_range, zero_range
from tests.powercut.writelog import WriteLog


@dataclass(frozen=True)
class Region:
    """A range of the disk, in bytes."""

    start: int
    size: int


class Replay:
    """A disk image that follows a write log; `path` is its file, which belongs to the caller.

    The file holds the disk as it was before the log, and is written to.
    """

    def __init__(self, log: WriteLog, path: Path, regions: Sequence[Region] = ()) -> None:
        self.path = path
        self._log = log
        self._done = 0
        self._changes = dict.fromkeys(regions, 0)
        self._touched: set[Region] = set()

    @contextmanager
    def cut(self, cut: Cut) -> Iterator[Path]:
        """Give the disk as `cut` left it; afterwards it is as the last flush before it made it.

        Cuts come in the order of the log. Whoever changes the file meanwhile restores it.
        """
        self._advance(last_flush(self._log.entries, cut.index))
        pieces = list(survivors(cut, self._log.entries))
        with (
            self._log.path.open("rb") as log,
            self.path.open("r+b") as disk,
            tempfile.TemporaryFile(dir=self.path.parent) as before,
        ):
            for piece in pieces:
                copy_range(disk, piece.start, before, piece.start, piece.size)
                self._note(piece)
            before.truncate(self.path.stat().st_size)
            for piece in pieces:
                _apply(log, piece, disk)
            disk.flush()
            try:
                yield self.path
            finally:
                for piece in pieces:
                    copy_range(before, piece.start, disk, piece.start, piece.size)
                self._touched.clear()

    def state(self, region: Region) -> int | None:
        """Return a number that stays while a region does; None within a cut that changed it."""
        return None if region in self._touched else self._changes[region]

    def _advance(self, count: int) -> None:
        if count < self._done:
            raise ValueError("cuts must come in the order of the log")
        with self._log.path.open("rb") as log, self.path.open("r+b") as disk:
            for entry in self._log.entries[self._done : count]:
                _apply(log, Piece(entry, 0, entry.size), disk)
                for region in self._changes:
                    if entry.touches(region.start, region.size):
                        self._changes[region] += 1
        self._done = count

    def _note(self, piece: Piece) -> None:
        for region in self._changes:
            if piece.entry.touches(region.start, region.size):
                self._touched.add(region)


def _apply(log: BinaryIO, piece: Piece, disk: BinaryIO) -> None:
    """Write what is kept of an entry; what was discarded reads as zeros."""
    data = piece.entry.data
    if data is None:
        zero_range(disk, piece.start, piece.size)
    else:
        copy_range(log, data + piece.offset, disk, piece.start, piece.size)
