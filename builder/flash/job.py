"""One run: clear, write, check, seed, check, partition table; in this order, on an open disk."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from builder.core.blockmap import BlockMap
from builder.core.blockscan import scan
from builder.core.cidata import PARTITION, fill_cidata
from builder.core.errors import UserError
from builder.core.process import Runner
from builder.flash.source import ImageFile, Source
from builder.flash.target import Target, opened
from builder.flash.write import (
    First,
    NotKept,
    Tell,
    check,
    clear,
    clear_bytes,
    finish,
    forget,
    judge,
    write,
)

Begin = Callable[[str, int], Tell]  # a phase and its bytes; returns what takes the progress
Files = Mapping[str, str | bytes]


@dataclass(frozen=True)
class Seed:
    """The file system of the seed, and where it goes, in bytes from the start of the disk."""

    file: Path
    map: BlockMap
    offset: int
    bytes: int


def make_seed(runner: Runner, source: Source, files: Files, work: Path) -> Seed:
    """Make the CIDATA file system of an image in the folder `work`. Raises UserError."""
    found = [one for one in source.manifest.disk.partitions if one.label == PARTITION]
    if not found:
        hint = "flash it without --seed"
        raise UserError(f"{source.title}: has no partition for a seed", hint=hint)
    size = found[0].bytes
    file = work / "cidata"
    file.touch(0o600)  # seeds hold secrets
    with file.open("r+b") as stream:
        stream.truncate(size)
    fill_cidata(runner, file, files, offset=0, size=size)
    return Seed(file, scan(file), found[0].offset, size)


def flash(
    runner: Runner, path: Path, source: Source, seed: Seed | None, begin: Begin, *, verify: bool
) -> None:
    """Write an image and its seed to a disk and read them back. Raises UserError.

    Whatever ends it early, the disk has no partition table then.
    """
    with opened(path) as target:
        if target.bytes < source.map.image_bytes:
            raise UserError(f"{path}: is smaller than the image", hint="take a larger disk")
        try:
            first = _image(runner, target, source, begin, verify=verify)
            if seed:
                _seed(target, seed, begin, verify=verify)
            finish(target, first, verify=verify)
        except BaseException:
            with contextlib.suppress(UserError):  # it may have been pulled out
                forget(target)
            raise


def _image(runner: Runner, target: Target, source: Source, begin: Begin, *, verify: bool) -> First:
    """Write and check all but the first piece: what is read back is not judged before, too."""
    clear(target, source.map, begin("clear", clear_bytes(target, source.map)))
    tell = begin("write", source.map.mapped_bytes)
    with source.reader(runner) as reader:
        first = write(target, reader, source.map, tell, judged=not verify)
    if verify:
        try:
            check(target, first, source.map, begin("verify", source.map.mapped_bytes))
        except NotKept:
            with source.reader(runner) as reader:
                judge(reader, source.map)  # unless the image itself is at fault
            raise
    return first


def _seed(target: Target, seed: Seed, begin: Begin, *, verify: bool) -> None:
    tell = begin("seed", seed.map.mapped_bytes * (2 if verify else 1))
    for _ in target.clear(seed.offset, seed.bytes):
        pass
    with seed.file.open("rb", buffering=0) as stream:
        first = write(target, ImageFile(stream), seed.map, tell, at=seed.offset)
    finish(target, first, verify=verify)
    if verify:
        check(target, first, seed.map, tell, at=seed.offset)
