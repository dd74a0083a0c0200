"""Copies ranges of sparse files, holes as holes."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from builder.vm.gpt import Partition

_CHUNK = 1 << 20
_ZEROS = bytes(_CHUNK)


def copy_range(source: BinaryIO, start: int, target: BinaryIO, to: int, size: int) -> None:
    """Copy `size` bytes; where the source has a hole or zeros, the target's holes stay holes."""
    for begin, end, is_data in _extents(source, start, start + size):
        if is_data:
            _copy(source, begin, target, to + begin - start, end - begin)
        else:
            zero_range(target, to + begin - start, end - begin)


def extract(disk: Path, part: Partition, target: Path) -> None:
    """Write a partition's bytes to a file of its own. Raises OSError."""
    target.unlink(missing_ok=True)  # ext4 writes a file out at once that was truncated
    with disk.open("rb") as source, target.open("wb") as out:
        out.truncate(part.size)
        copy_range(source, part.offset, out, 0, part.size)


def _copy(source: BinaryIO, start: int, target: BinaryIO, to: int, size: int) -> None:
    for at in range(0, size, _CHUNK):
        data = os.pread(source.fileno(), min(_CHUNK, size - at), start + at)
        if data == _ZEROS[: len(data)]:
            zero_range(target, to + at, len(data))
        else:
            os.pwrite(target.fileno(), data, to + at)


def zero_range(target: BinaryIO, start: int, size: int) -> None:
    """Write zeros over the data of a range; its holes stay holes."""
    for begin, end, is_data in _extents(target, start, start + size):
        for at in range(begin, end if is_data else begin, _CHUNK):
            os.pwrite(target.fileno(), bytes(min(_CHUNK, end - at)), at)


def _extents(file: BinaryIO, start: int, end: int) -> Iterator[tuple[int, int, bool]]:
    """Yield the parts of a range of a file, and whether each is data or a hole (lseek(2))."""
    at = start
    while at < end:
        data = min(end, _seek(file, at, os.SEEK_DATA))
        if at < data:
            yield at, data, False
        at = data
        if at < end:
            hole = min(end, _seek(file, at, os.SEEK_HOLE))
            yield at, hole, True
            at = hole


def _seek(file: BinaryIO, at: int, what: int) -> int:
    """Return where data or a hole comes next; far away when only a hole follows."""
    try:
        return os.lseek(file.fileno(), at, what)
    except OSError as error:
        if error.errno == errno.ENXIO:
            return 1 << 62
        raise
