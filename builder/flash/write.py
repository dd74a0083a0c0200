"""Writes an image to a disk by its block map, and reads back what is there.

The first piece, which holds the partition table, comes last, when all else was read back: a disk
on which this was cut off holds no image, rather than half of one.
"""

from __future__ import annotations

import contextlib
import hashlib
import mmap
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from builder.core.blockmap import BlockMap
from builder.core.errors import UserError
from builder.flash.ahead import BUFFERS, Chunk, Take, ahead
from builder.flash.target import PIECE, Target

Tell = Callable[[int], None]  # so many bytes more
TAIL = 1 << 20  # at the end of a disk lies the second table of what was there before
_HEAD = 1 << 20
_ALIGN = 4096


@dataclass(frozen=True)
class First:
    """The first piece of an image, with the partition table, and its offset on the disk."""

    offset: int
    data: bytes


class NotKept(UserError):
    """A disk does not hold what was written to it."""

    def __init__(self, path: Path, where: str) -> None:
        hint = "the disk is failing, or has not the size that it claims: take another"
        super().__init__(f"{path}: does not hold what was written to it, {where}", hint=hint)


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


def write(
    target: Target, reader: Reader, found: BlockMap, tell: Tell, *, at: int = 0, judged: bool = True
) -> First:
    """Write an image to the offset `at` of a disk, but for its first piece, which is returned.

    With `judged` the image is compared with the map on the way; without, `check` finds what is
    wrong of it. Raises UserError when the image is not what the map says, or the disk fails.
    """
    first = First(at, b"")
    with _judged(), ThreadPoolExecutor(2) as pool:
        before: Future[None] | None = None  # a disk is faster when it has the next one already
        for chunk in ahead(lambda take: _pieces(reader, found, take, judged=judged)):
            if not first.data:
                first = First(at + chunk.offset, bytes(chunk.data))
            else:
                now = pool.submit(target.write, chunk.data, at + chunk.offset)
                if before:
                    before.result()
                before = now
            tell(len(chunk.data))
        if before:
            before.result()
    target.flush()
    return first


def check(target: Target, first: First, found: BlockMap, tell: Tell, *, at: int = 0) -> None:
    """Read back what was written, from the disk itself. Raises NotKept where it differs."""
    try:
        for chunk in ahead(lambda take: _pieces(_OnDisk(target, at, first), found, take)):
            tell(len(chunk.data))
    except _Differs as error:
        raise NotKept(target.path, str(error)) from None


def judge(reader: Reader, found: BlockMap) -> None:
    """Compare an image with its map. Raises UserError where it differs."""
    with _judged():
        for _ in ahead(lambda take: _pieces(reader, found, take)):
            pass


def finish(target: Target, first: First, *, verify: bool) -> None:
    """Write the first piece, and read it back. Raises UserError, NotKept when it is not there."""
    size = len(first.data)
    if not size:
        return
    with mmap.mmap(-1, size) as buffer, memoryview(buffer) as view:
        view[:] = first.data
        target.write(view, first.offset)
        target.flush()
        if verify:
            target.read(first.offset, view)
            if view != first.data:
                raise NotKept(target.path, _between(first.offset, first.offset + size))


def forget(target: Target) -> None:
    """Take the partition table away: what is on the disk is half of an image."""
    for _ in target.clear(0, min(_HEAD, target.bytes)):
        target.flush()


class _Differs(Exception):
    """A range has another digest; the text says where."""


@contextlib.contextmanager
def _judged() -> Iterator[None]:
    try:
        yield
    except _Differs as error:
        hint = "it is damaged: build or release it again"
        raise UserError(f"the image is not what its block map says, {error}", hint=hint) from None


@dataclass(frozen=True)
class _OnDisk:
    """Reads an image back from where it was written to, but for its first piece."""

    target: Target
    at: int
    first: First

    def read(self, offset: int, view: memoryview) -> None:
        """Fill `view` from the disk."""
        if self.first.data and self.at + offset == self.first.offset:
            view[:] = self.first.data
        else:
            self.target.read(self.at + offset, view)


def _pieces(reader: Reader, found: BlockMap, take: Take, *, judged: bool = True) -> Iterator[Chunk]:
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
                if judged:
                    hashing.append(pool.submit(digest.update, view))
                yield Chunk(offset, view)
                offset += len(view)
            while hashing:
                hashing.popleft().result()
            if judged and digest.hexdigest() != extent.sha256:
                raise _Differs(_between(extent.offset, end))


def _tail(target: Target, found: BlockMap) -> int:
    """Return where the last piece of a disk begins, behind the image."""
    return max(found.image_bytes, (target.bytes - TAIL) // _ALIGN * _ALIGN)


def _between(offset: int, end: int) -> str:
    return f"between {offset >> 10} and {end >> 10} KiB"
