"""The firmware's own boot entry for the new disk: efibootmgr(8).

The disk also boots without one, by EFI/BOOT/BOOTX64.EFI; with it, it comes before other disks
and sticks.
"""

from __future__ import annotations

import re
from pathlib import Path

from imgnode import process
from imgnode.install.table import Partition

_VARIABLES = Path("sys/firmware/efi/efivars")
_COMMAND_S = 60
_LABEL = "imgbuild"
_LOADER = r"\EFI\systemd\systemd-bootx64.efi"
_LINE = re.compile(rf"Boot([0-9A-F]{{4}})\*? {_LABEL}(\t.*)?")


def set_entry(disk: Path, esp: Partition, root: Path = Path("/")) -> str | None:
    """Make the disk the first one that firmware tries; return why it could not, else None.

    Entries of earlier installations go. The order of all others stays.
    """
    folder = root / _VARIABLES
    if not folder.is_dir() or not any(folder.iterdir()):
        return "this machine was not started by UEFI, or shows no variables"
    told = process.run(["efibootmgr"], timeout_s=_COMMAND_S)
    for number in _ours(told.stdout):
        words = ["efibootmgr", "--quiet", "--bootnum", number, "--delete-bootnum"]
        process.run(words, timeout_s=_COMMAND_S)
    words = ["--disk", str(disk), "--part", str(esp.number), "--label", _LABEL]
    argv = ["efibootmgr", "--quiet", "--create", *words, "--loader", _LOADER]
    done = process.run(argv, timeout_s=_COMMAND_S)
    return " ".join(done.stderr.split())[-300:] or f"efibootmgr: {done.rc}" if done.rc else None


def _ours(listing: str) -> list[str]:
    return [match[1] for line in listing.splitlines() if (match := _LINE.fullmatch(line))]
