"""Files through zstd(1): compressed, unpacked, and as patches from older files.

One thread and fixed levels: the same input gives the same bytes on every host with this zstd.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import BinaryIO

from builder.core.errors import UserError
from builder.core.process import CommandError, Runner
from builder.core.sandbox import tied
from builder.model.release import Piece

LEVEL = 9  # of what every node without a patch fetches
QUICK = 3  # of the disk image: its root is compressed already, and much of it is holes
PATCH_LEVEL = 9  # 15 takes thirty times as long for 5 % less, 19 finds fewer long matches
_PIECES = 4
_LONG = "--long=31"
_CHUNK = 1 << 20


def compress(runner: Runner, source: Path, target: Path, level: int = LEVEL) -> None:
    """Write a compressed copy of a file."""
    _zstd(runner, f"-{level}", "--single-thread", "--check", source, "-o", target)


def unpack(runner: Runner, source: Path, target: Path) -> None:
    """Write what a compressed file holds. Raises UserError when it is damaged."""
    try:
        _zstd(runner, "--decompress", source, "-o", target)
    except CommandError as error:
        raise UserError(f"{source}: cannot be unpacked\n{error}") from None


def make_patch(runner: Runner, old: Path, new: Path, target: Path, work: Path) -> tuple[Piece, ...]:
    """Write to `target` what turns `old` into `new`; return the pieces that it is made of.

    zstd holds the old file twice while it unpacks (1.5.4), so each piece refers to a slice of
    half of it: a node needs memory for the size of the old file, not for twice as much.
    """
    pieces = []
    cut, before, frame = work / "cut", work / "before", work / "frame"
    old_size = old.stat().st_size
    with target.open("wb") as out:
        for number, (start, end) in enumerate(_cuts(new.stat().st_size)):
            old_start, old_bytes = old_slice(old_size, number)
            _copy_range(new, start, end - start, cut)
            _copy_range(old, old_start, old_bytes, before)
            words = (f"-{PATCH_LEVEL}", "--single-thread", "--check", _LONG)
            _zstd(runner, *words, f"--patch-from={before}", cut, "-o", frame)
            length = _append(frame, out)
            pieces.append(Piece(bytes=length, old_start=old_start, old_bytes=old_bytes))
    for path in (cut, before, frame):
        path.unlink()
    return tuple(pieces)


def apply_patch(
    runner: Runner, old: Path, patch: Path, pieces: Sequence[Piece], target: Path, work: Path
) -> None:
    """Write the new file that a patch makes of `old`. Raises UserError when it does not fit."""
    at = 0
    cut, before, frame = work / "cut", work / "before", work / "frame"
    with target.open("wb") as out:
        for piece in pieces:
            _copy_range(patch, at, piece.bytes, frame)
            _copy_range(old, piece.old_start, piece.old_bytes, before)
            words = ("--decompress", _LONG, f"--patch-from={before}")
            try:
                _zstd(runner, *words, frame, "-o", cut)
            except CommandError as error:
                raise UserError(f"{patch}: does not fit the old file\n{error}") from None
            _append(cut, out)
            at += piece.bytes


def old_slice(size: int, number: int) -> tuple[int, int]:
    """Return start and length of the half of an old file that piece `number` refers to.

    Its middle is where the piece lies: files keep their order in an image, so what is equal
    is rarely more than a quarter of the image away.
    """
    length = size // 2
    middle = size * (2 * number + 1) // (2 * _PIECES)
    return max(0, min(size - length, middle - length // 2)), length


def _cuts(size: int) -> list[tuple[int, int]]:
    edges = [size * number // _PIECES for number in range(_PIECES + 1)]
    return list(pairwise(edges))


def _zstd(runner: Runner, *words: str | Path) -> None:
    runner.run(tied(["zstd", "--quiet", "--force", *words]), called="zstd")


def _copy_range(source: Path, start: int, count: int, target: Path) -> None:
    with source.open("rb") as stream, target.open("wb") as out:
        stream.seek(start)
        while count and (chunk := stream.read(min(count, _CHUNK))):
            out.write(chunk)
            count -= len(chunk)


def _append(source: Path, out: BinaryIO) -> int:
    """Write a file to the end of another; return its bytes."""
    count = 0
    with source.open("rb") as stream:
        while chunk := stream.read(_CHUNK):
            count += out.write(chunk)
    return count
