"""The two FAT partitions, by mtools(1): nothing is mounted, and a plain file serves as a disk."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path

from imgnode import process
from imgnode.install.table import Partition
from imgnode.install.why import TABLE
from imgnode.update.refused import WRITE, Refused

_COMMAND_S = 300
_ENTRIES = "::/EFI/Linux"
_TRIES = 3  # systemd-boot(7), boot counting
_KIB, _SECTOR = 1024, 512
_FAT32_LEAST = 40 << 20  # 65525 clusters, and the tables
_LARGE, _LARGE_CLUSTER = 512 << 20, 8
_ENV = {"MTOOLS_SKIP_CHECK": "1"}


def forget_entries(disk: Path, esp: Partition) -> None:
    """Format the ESP anew: the slots are about to be written. Raises Refused.

    What a power cut has left of it is never read.
    """
    # Named, because with an offset mkfs.vfat goes by the size of the whole disk, and mtools take a
    # FAT32 of fewer clusters than 65525 for another kind.
    sectors = _LARGE_CLUSTER if esp.bytes >= _LARGE else 1
    kind = ["-F", "32", "-s", str(sectors)] if esp.bytes >= _FAT32_LEAST else []
    place = f"--offset={esp.offset // _SECTOR}"
    form = ["mkfs.vfat", "-I", *kind, "-n", "ESP", place, str(disk), str(esp.bytes // _KIB)]
    _must(form)
    _mtools("mmd", disk, esp, "::/EFI", _ENTRIES)
    _flush(disk)


def put_tree(disk: Path, esp: Partition, folder: Path) -> None:
    """Copy a folder's content to the ESP: boot loader and its settings. Raises Refused."""
    for one in sorted(folder.iterdir()):
        _mtools("mcopy", disk, esp, "-s", "-o", "-Q", str(one), "::/")
    for path in ("::/EFI", _ENTRIES):
        _mtools("mmd", disk, esp, path, may_fail=True)  # it may be there


def put_entry(disk: Path, esp: Partition, uki: Path, stem: str, work: Path) -> None:
    """Install a kernel image as a boot entry with three tries; it gets its name last.

    Raises Refused when it is not read back as it was written.
    """
    part, name = f"{_ENTRIES}/{stem}.part", f"{_ENTRIES}/{stem}+{_TRIES}.efi"
    again = work / "again.efi"
    _mtools("mcopy", disk, esp, "-o", "-Q", str(uki), part)
    _flush(disk)
    again.unlink(missing_ok=True)
    _mtools("mcopy", disk, esp, "-Q", part, str(again))
    if _sha256(again) != _sha256(uki):
        fact = f"{disk}: the ESP does not hold what was written to it"
        raise Refused(WRITE, fact, "the disk is failing: dmesg; smartctl")
    again.unlink()
    _mtools("mren", disk, esp, part, name.removeprefix("::"))
    _flush(disk)


def write_seed(disk: Path, cidata: Partition, files: Mapping[str, str], work: Path) -> None:
    """Format CIDATA anew, so that it holds these files and no others. Raises Refused."""
    image = work / "cidata"
    image.unlink(missing_ok=True)
    image.touch(0o600)  # seeds hold secrets
    os.truncate(image, cidata.bytes)
    form = ["mkfs.vfat", "-F", "12", "-n", "CIDATA", str(image), str(cidata.bytes // _KIB)]
    _must(form)
    for name, text in files.items():
        file = work / name
        file.write_text(text)
        _must(["mcopy", "-i", str(image), str(file), f"::{name}"])
        file.unlink()
    with image.open("rb") as source, disk.open("r+b") as out:
        out.seek(cidata.offset)
        while data := source.read(1 << 20):
            out.write(data)
        out.flush()
        os.fsync(out.fileno())
    image.unlink()


def _mtools(program: str, disk: Path, part: Partition, *words: str, may_fail: bool = False) -> str:
    argv = [program, "-i", f"{disk}@@{part.offset}", *words]
    return _must(argv, may_fail=may_fail)


def _must(argv: list[str], *, may_fail: bool = False) -> str:
    done = process.run(argv, timeout_s=_COMMAND_S, env=_ENV)
    if done.rc and not may_fail:
        raise Refused(TABLE, f"{argv[0]}: {' '.join(done.stderr.split())[-300:]}", "dmesg")
    return done.stdout


def _flush(disk: Path) -> None:
    with disk.open("rb") as stream:
        os.fsync(stream.fileno())


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
