"""Makes the block map of a disk image, and checks an image against one.

A map follows from the image's bytes alone: a copy with other holes has the same one.
"""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from builder.core.blockmap import BLOCK, BlockMap, Range

if TYPE_CHECKING:
    from hashlib import _Hash

_CHUNK = 256 * BLOCK
_ZERO = bytes(BLOCK)
_CLOSE = 16  # holes of fewer blocks are written: a disk is faster then, and the map short


def scan(image: Path) -> BlockMap:
    """Return the map of an image. Raises OSError."""
    size = image.stat().st_size
    made = _Making()
    with image.open("rb", buffering=0) as stream:
        for start, end in _stretches(stream, size):
            at = start
            while at < end:
                data = _read(stream, at, min(_CHUNK, end - at))
                made.take(at // BLOCK, data)
                at += len(data)
    return BlockMap(size, made.done())


def wrong_range(image: Path, found: BlockMap) -> Range | None:
    """Return the first range that an image does not hold as mapped, None when all is good."""
    with image.open("rb", buffering=0) as stream:
        for one, extent in zip(found.ranges, found.mapped(), strict=True):
            digest, at, end = hashlib.sha256(), extent.offset, extent.offset + extent.bytes
            while at < end and (data := os.pread(stream.fileno(), min(_CHUNK, end - at), at)):
                digest.update(data)
                at += len(data)
            if at < end or digest.hexdigest() != one.sha256:
                return one
    return None


@dataclass
class _Making:
    """The ranges so far, and the one that is still open."""

    ranges: list[Range] = field(default_factory=list)
    first: int = 0
    last: int = -1
    digest: _Hash | None = None

    def take(self, number: int, data: bytes) -> None:
        """Add the blocks of `data`, the first of which is `number`."""
        for at, length in _full(data):
            self._add(number + at // BLOCK, data[at : at + length])

    def done(self) -> tuple[Range, ...]:
        """Close what is open; return all ranges."""
        if self.digest:
            self.ranges.append(Range(self.first, self.last, self.digest.hexdigest()))
            self.digest = None
        return tuple(self.ranges)

    def _add(self, number: int, data: bytes) -> None:
        gap = number - self.last - 1
        if self.digest and gap < _CLOSE:
            self.digest.update(bytes(gap * BLOCK))
        else:
            self.done()
            self.first, self.digest = number, hashlib.sha256()
        self.digest.update(data)
        self.last = number + -(-len(data) // BLOCK) - 1


def _full(data: bytes) -> Iterator[tuple[int, int]]:
    """Yield start and length of each run of blocks that are not all zeros."""
    start = None
    for at in range(0, len(data), BLOCK):
        block = data[at : at + BLOCK]
        if block == _ZERO[: len(block)]:
            if start is not None:
                yield start, at - start
            start = None
        elif start is None:
            start = at
    if start is not None:
        yield start, len(data) - start


def _stretches(stream: BinaryIO, size: int) -> Iterator[tuple[int, int]]:
    """Yield what the file system says is no hole, in whole blocks (lseek(2), SEEK_DATA)."""
    at = 0
    while at < size:
        try:
            start = max(at, os.lseek(stream.fileno(), at, os.SEEK_DATA) // BLOCK * BLOCK)
        except OSError as error:
            if error.errno == errno.ENXIO:
                return
            raise
        end = os.lseek(stream.fileno(), start, os.SEEK_HOLE)
        at = min(size, -(-end // BLOCK) * BLOCK)
        yield start, at


def _read(stream: BinaryIO, at: int, count: int) -> bytes:
    """Return bytes of a file; the last ones may be fewer than asked, never none."""
    data = os.pread(stream.fileno(), count, at)
    if not data:
        raise OSError(errno.EIO, "is shorter than it was", stream.name)
    return data
