"""The file system of the CIDATA partition, from which cloud-init takes a node's seed (NoCloud)."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path

from builder.core.errors import UserError
from builder.core.process import Runner

NAMES = ("user-data", "meta-data", "network-config", "vendor-data")
LABEL = "CIDATA"
PARTITION = "cidata"
_SECTOR = 512
_KIB = 1024


def fill_cidata(
    runner: Runner, disk: Path, files: Mapping[str, str | bytes], *, offset: int, size: int
) -> None:
    """Format `size` bytes at `offset` of a file anew, so that they hold `files` and no others.

    The same files give the same file system, but for their times. Raises UserError when a
    name is not a seed file's, or they have no room.
    """
    check_names(files)
    # Formatted here because systemd-repart makes a FAT32 of any size, and mtools cannot
    # write to one below 33 MiB.
    form = ["mkfs.vfat", "-F", "12", "--invariant", "-n", LABEL]
    place = f"--offset={offset // _SECTOR}"
    runner.run([*form, place, disk, str(size // _KIB)])
    with tempfile.TemporaryDirectory(dir=disk.parent) as folder:
        for name, content in files.items():
            file = Path(folder) / name
            file.write_bytes(content.encode() if isinstance(content, str) else content)
            runner.run(["mcopy", "-i", f"{disk}@@{offset}", file, f"::{name}"])


def check_names(names: Iterable[str]) -> None:
    """Raise UserError for a name that is not a seed file's."""
    for name in names:
        if name not in NAMES:
            raise UserError(f"{name}: not a seed file", hint=f"one of {', '.join(NAMES)}")
