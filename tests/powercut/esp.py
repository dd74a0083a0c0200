"""What an ESP holds after a power cut, as fsck.vfat(8) and mtools(1) read it."""

from __future__ import annotations

import hashlib
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from builder.core.process import CommandError, Runner
from tests.powercut.bootloader import Uki

_COMMAND_S = 60
_FOLDER = "::/EFI/Linux"
_FREE = re.compile(r"^\s*([\d ]+) bytes free", re.MULTILINE)
_PROGRAM = b"MZ"
# What fsck.vfat says of files that cannot be read as they are. That a FAT was not unmounted, and
# that clusters are lost, is no fault: that is told.
_HARMFUL = ("share clusters", "Cannot", "Bad", "Logical sector size")


@dataclass(frozen=True)
class Esp:
    """The files in `EFI/Linux`, the free bytes, what is broken, and what is worth telling."""

    files: tuple[Uki, ...]
    free: int
    faults: tuple[str, ...]
    notes: tuple[str, ...]


def read_esp(runner: Runner, image: Path, versions: Mapping[str, str], work: Path) -> Esp:
    """Return what the file system in `image` holds; `versions` by the digest of their UKI.

    `work` is a folder that may be emptied. Raises CommandError when it cannot be read at all.
    """
    said = runner.run(["fsck.vfat", "-n", "-v", image], ok=(0, 1), timeout_s=_COMMAND_S).stdout
    lines = [line.strip() for line in said.splitlines()]
    start = next((i for i, line in enumerate(lines) if line.startswith("Checking")), 0)
    faults = [
        line for line in lines[start:] if line.endswith(_HARMFUL) or line.startswith(_HARMFUL)
    ]
    notes = [line for line in lines if "Reclaim" in line or line.startswith(("Truncating", "/EFI"))]
    told = runner.run(["mdir", "-i", image, _FOLDER], timeout_s=_COMMAND_S).stdout
    free = _FREE.search(told)
    listed = runner.run(["mdir", "-b", "-i", image, _FOLDER], timeout_s=_COMMAND_S).stdout
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir()
    files = []
    for place in listed.splitlines():
        name = place.rpartition("/")[2]
        if name:
            files.append(_file(runner, image, name, versions, work / "uki"))
    count = int(free[1].replace(" ", "")) if free else 0
    return Esp(tuple(files), count, tuple(faults), tuple(notes))


def _file(runner: Runner, image: Path, name: str, versions: Mapping[str, str], copy: Path) -> Uki:
    """Read one file; one that cannot be read to its end is of no version."""
    copy.unlink(missing_ok=True)
    try:
        runner.run(["mcopy", "-n", "-i", image, f"{_FOLDER}/{name}", copy], timeout_s=_COMMAND_S)
    except CommandError:
        copy.touch()
    data = copy.read_bytes()
    version = versions.get(hashlib.sha256(data).hexdigest())
    return Uki(name, len(data), version, data[:2] == _PROGRAM)
