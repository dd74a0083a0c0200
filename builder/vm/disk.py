"""The machine's own disk: a sparse copy of an image, with a seed in its CIDATA partition."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from builder.core.errors import UserError
from builder.vm.gpt import SECTOR, find_partition

if TYPE_CHECKING:
    from collections.abc import Mapping

    from builder.core.process import Runner

DEFAULT_SIZE = 8 << 30
_SEED_NAMES = ("user-data", "meta-data", "network-config", "vendor-data")
_PARTITION = "cidata"
_LABEL = "CIDATA"
_KIB = 1024


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
    for name in files:
        if name not in _SEED_NAMES:
            raise UserError(f"{name}: not a seed file", hint=f"one of {', '.join(_SEED_NAMES)}")
    # Formatted here because systemd-repart makes a FAT32 of any size, and mtools cannot
    # write to one below 33 MiB.
    part = find_partition(runner, disk, _PARTITION)
    form = ["mkfs.vfat", "-F", "12", "--invariant", "-n", _LABEL]
    place = f"--offset={part.offset // SECTOR}"
    runner.run([*form, place, disk, str(part.size // _KIB)])
    with tempfile.TemporaryDirectory(dir=disk.parent) as folder:
        for name, content in files.items():
            file = Path(folder) / name
            file.write_bytes(content.encode() if isinstance(content, str) else content)
            runner.run(["mcopy", "-i", f"{disk}@@{part.offset}", file, f"::{name}"])
