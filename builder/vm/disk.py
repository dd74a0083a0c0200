"""The machine's own disk: a sparse copy of an image, with a seed in its CIDATA partition."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from builder.core.cidata import PARTITION, check_names, fill_cidata
from builder.core.errors import UserError
from builder.vm.gpt import find_partition

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from builder.core.process import Runner

DEFAULT_SIZE = 8 << 30


def prepare_disk(runner: Runner, image: Path, target: Path, size_bytes: int = DEFAULT_SIZE) -> Path:
    """Copy `image` to `target`, grown to `size_bytes` but never made smaller.

    Holes stay holes. Returns `target`; on failure it is removed. Raises UserError when
    the image is missing or the copy fails.
    """
    if not image.is_file():
        raise UserError(f"{image}: no such disk image", hint="run `imgbuild build` first")
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        runner.run(["cp", "--sparse=always", "--reflink=auto", "--", image, target])
        if target.stat().st_size < size_bytes:
            os.truncate(target, size_bytes)
    except BaseException:
        target.unlink(missing_ok=True)
        raise
    return target


def write_seed(runner: Runner, disk: Path, files: Mapping[str, str | bytes]) -> None:
    """Fill the CIDATA partition of a raw disk with cloud-init `files` (name to content).

    The partition is formatted anew, so it holds these files and no others. Raises
    UserError when the disk has no such partition or a name is not a seed file's.
    """
    check_names(files)
    part = find_partition(runner, disk, PARTITION)
    fill_cidata(runner, disk, files, offset=part.offset, size=part.size)
