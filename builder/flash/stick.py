"""The disk image of an installer's stick: the installer as its boot program, beside a release.

Two partitions: an EFI system partition whose boot program is the installer, and an ext4 file
system with the order and the release as on a server. Made as a sparse file by programs of the
host (sfdisk, mkfs.vfat, mtools, mke2fs), and written like any image.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from builder.core.blockscan import scan
from builder.core.errors import UserError
from builder.core.files import link_or_copy
from builder.core.process import Runner
from builder.flash.carried import Carried
from builder.flash.source import Source
from imgnode.install.medium import LABEL, ORDER_FILE, RELEASES

_MIB = 1 << 20
_SECTOR, _BLOCK, _KIB = 512, 4096, 1024
_ESP_LABEL = "imgbuild-installer"
_BOOT = "::/EFI/BOOT/BOOTX64.EFI"
_TABLE = """\
label: gpt
first-lba: 2048
start={esp_start}, size={esp_size}, type=C12A7328-F81F-11D2-BA4B-00A0C93EC93B, name={esp}
start={start}, size={size}, type=0FC63DAF-8483-4772-8E79-3D69D8477DE4, name={label}
"""
_SEALED = b"imgnode.order="  # in a UKI, of its command line: all else is compressed


@dataclass(frozen=True)
class Stick(Source):
    """An image that installs another one: `manifest` is that of what it carries."""

    @property
    def title(self) -> str:
        """What it does."""
        return f"installer of {super().title}"

    @property
    def least_bytes(self) -> int:
        """How large the stick must be: what it installs needs its room elsewhere."""
        return self.map.image_bytes


def check_installer(path: Path) -> None:
    """Raise UserError unless a file is an installer that looks for its order on the stick."""
    hint = "imgbuild installer builds one"
    if not path.is_file():
        raise UserError(f"{path}: there is no installer", hint=hint)
    data = path.read_bytes()
    if not data.startswith(b"MZ"):
        raise UserError(f"{path}: is no EFI program", hint=hint)
    if _SEALED in data:
        fact = f"{path}: asks a server for its order, and would never look at the stick"
        raise UserError(fact, hint="build one without --order")


def make_stick(
    runner: Runner, installer: Path, carried: Carried, order: Mapping[str, Any], work: Path
) -> Stick:
    """Make the stick's disk image in the folder `work`. Raises UserError."""
    tree = work / "stick"
    for name, path in carried.files.items():
        target = tree / RELEASES / name
        target.parent.mkdir(parents=True, exist_ok=True)
        link_or_copy(runner, path, target)
    text = tree / ORDER_FILE
    text.touch(0o600)  # seeds hold secrets
    text.write_text(json.dumps(order, indent=1) + "\n")
    esp = _up(installer.stat().st_size + 8 * _MIB, 64 * _MIB)  # FAT32 wants 33 MiB
    content = sum(_up(path.stat().st_size, _BLOCK) for path in carried.files.values())
    size = _up(content + content // 50 + 16 * _MIB, _MIB)
    disk = work / "stick.raw"
    disk.touch(0o600)
    os.truncate(disk, _MIB + esp + size + _MIB)
    _partition(runner, disk, esp, size)
    _fill_esp(runner, disk, esp, installer)
    _fill_release(runner, disk, _MIB + esp, size, tree, 2 * len(carried.files) + 64)
    return Stick(carried.manifest, scan(disk), disk)


def _partition(runner: Runner, disk: Path, esp: int, size: int) -> None:
    table = _TABLE.format(
        esp_start=_MIB // _SECTOR,
        esp_size=esp // _SECTOR,
        esp=_ESP_LABEL,
        start=(_MIB + esp) // _SECTOR,
        size=size // _SECTOR,
        label=LABEL,
    )
    runner.run(["sfdisk", "--quiet", disk], stdin=table)


def _fill_esp(runner: Runner, disk: Path, size: int, installer: Path) -> None:
    # One sector a cluster, or with an offset mkfs.vfat goes by the size of the whole disk, and
    # mtools take a FAT32 of few clusters for another kind.
    form = ["mkfs.vfat", "-F", "32", "-s", "1", "-n", "INSTALLER", f"--offset={_MIB // _SECTOR}"]
    runner.run([*form, disk, str(size // _KIB)])
    where = f"{disk}@@{_MIB}"
    runner.run(["mmd", "-i", where, "::/EFI", "::/EFI/BOOT"])
    runner.run(["mcopy", "-i", where, installer, _BOOT])


def _fill_release(
    runner: Runner, disk: Path, offset: int, size: int, tree: Path, inodes: int
) -> None:
    words: list[str | Path] = ["mke2fs", "-q", "-F", "-t", "ext4", "-b", str(_BLOCK), "-m", "0"]
    words += ["-L", LABEL, "-O", "^has_journal,^resize_inode", "-E"]
    words += [f"offset={offset},root_owner=0:0,lazy_itable_init=0", "-N", str(inodes)]
    runner.run([*words, "-d", tree, disk, str(size // _BLOCK)])


def _up(value: int, step: int) -> int:
    return -(-value // step) * step
