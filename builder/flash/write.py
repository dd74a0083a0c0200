"""Writes an image to a disk by its block map, and reads back what is there.

The first block, which holds the partition table, comes last: a disk on which this was cut off
holds no image, rather than half of one.
"""

from __future__ import annotations

import hashlib
import mmap
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol

from builder.core.blockmap import BlockMap
from builder.core.errors import UserError
from builder.flash.ahead import BUFFERS, Chunk, Take, ahead
from builder.flash.target import PIECE, Target

Tell = Callable[[int], None]  # so many bytes more
TAIL = 1 << 20  # at the end of a disk lies the second table of what was there before
_HEAD = 1 << 20
_ALIGN = 4096


class Reader(Protocol):
    """Where an image comes from; offsets are asked for in ascending order."""

    def read(self, offset: int, view: memoryview) -> None:
        """Fill `view` with the image's bytes. Raises EOFError or UserError when there are fewer."""


def clear_bytes(target: Target, found: BlockMap) -> int:
    """Return how much `clear` has to look at."""
    return sum(hole.bytes for hole in found.holes()) + target.bytes - _tail(target, found)


def clear(target: Target, found: BlockMap, tell: Tell) -> None:
    """Make everything that the map does not name read as zeros, the table first."""
    head = min(_HEAD, target.bytes)
    for _ in target.clear(0, head):
        target.flush()
    for hole in found.holes():
        for done in target.clear(hole.offset, hole.bytes):
            tell(done)
    tail = _tail(target, found)
    for done in target.clear(tail, target.bytes - tail):
        tell(done)


def write(target: Target, reader: Reader, found: BlockMap, tell: Tell, *, at: int = 0) -> None:
    """Write an image to the offset `at` of a disk, its first piece last.

    Raises UserError when the image is not what the map says, or the disk fails.
    """
    first: tuple[int, bytes] | None = None
    try:
        for chunk in ahead(lambda take: _hashed(reader, found, take)):
            if first is None:
                first = chunk.offset, bytes(chunk.data)
            else:
                target.write(chunk.data, at + chunk.offset)
            tell(len(chunk.data))
    except _Differs as error:
        hint = "it is damaged: build or release it again"
        raise UserError(f"the image is not what its block map says, {error}", hint=hint) from None
    target.flush()
    if first:
        _write_first(target, at + first[0], first[1])
        target.flush()


def check(target: Target, found: BlockMap, tell: Tell, *, at: int = 0) -> None:
    """Read back what was written, from the disk itself. Raises UserError where it differs."""
    try:
        for chunk in ahead(lambda take: _hashed(_OnDisk(target, at), found, take)):
            tell(len(chunk.data))
    except _Differs as error:
        hint = "the disk is failing, or has not the size that it claims: take another"
        fact = f"{target.path}: does not hold what was written to it, {error}"
        raise UserError(fact, hint=hint) from None


def forget(target: Target) -> None:
    """Take the partition table away: what is on the disk is half of an image."""
    for _ in target.clear(0, min(_HEAD, target.bytes)):
        target.flush()


class _Differs(Exception):
    """A range has another digest; the text says where."""


@dataclass(frozen=True)
class _OnDisk:
    """Reads an image back from where it was written to."""

    target: Target
    at: int

    def read(self, offset: int, view: memoryview) -> None:
        """Fill `view` from the disk."""
        self.target.read(self.at + offset, view)


def _hashed(reader: Reader, found: BlockMap, take: Take) -> Iterator[Chunk]:
    """Yield the mapped bytes; each range is judged when its last chunk has been yielded.

    They are hashed in a thread of its own while the next ones are read.
    """
    hashing: deque[Future[None]] = deque()
    with ThreadPoolExecutor(1) as pool:
        for extent in found.mapped():
            digest, offset, end = hashlib.sha256(), extent.offset, extent.offset + extent.bytes
            while offset < end:
                view = take()[: min(PIECE, end - offset)]
                while len(hashing) >= BUFFERS:  # this buffer's former bytes are hashed
                    hashing.popleft().result()
                reader.read(offset, view)
                hashing.append(pool.submit(digest.update, view))
                yield Chunk(offset, view)
                offset += len(view)
            while hashing:
                hashing.popleft().result()
            if digest.hexdigest() != extent.sha256:
                raise _Differs(f"between {extent.offset >> 10} and {end >> 10} KiB")


def _tail(target: Target, found: BlockMap) -> int:
    """Return where the last piece of a disk begins, behind the image."""
    return max(found.image_bytes, (target.bytes - TAIL) // _ALIGN * _ALIGN)


def _write_first(target: Target, offset: int, data: bytes) -> None:
    with mmap.mmap(-1, len(data)) as buffer, memoryview(buffer) as view:
        view[:] = data
        target.write(view, offset)
