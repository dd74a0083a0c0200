"""The disks of this machine, and the one that a rule means.

largest-nvme, smallest-nvme, largest, smallest; serial=S; size=LOW-HIGH in GB, such as
size=900-2000; several, joined by commas, must all hold: size=400-1000,smallest.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from imgnode import process
from imgnode.install.why import DISK
from imgnode.update.refused import Refused

_COMMAND_S = 60
_COLUMNS = "NAME,PATH,TYPE,SIZE,MODEL,SERIAL,RM,RO,TRAN,MOUNTPOINTS,LOG-SEC"
_SECTOR = 512
_GB = 10**9
_SIZE = re.compile(r"size=([0-9]+)-([0-9]+)")


@dataclass(frozen=True)
class Disk:
    """An internal disk that nothing uses; `transport` is such as nvme, sata or virtio."""

    path: Path
    bytes: int
    model: str = ""
    serial: str = ""
    transport: str = ""

    @property
    def nvme(self) -> bool:
        """Whether it is an NVMe disk."""
        return self.transport == "nvme" or self.path.name.startswith("nvme")


def list_disks() -> tuple[Disk, ...]:
    """Return the disks that could be installed to. Raises Refused when they cannot be listed.

    Left out: removable and read-only ones, those with something mounted, those with sectors
    of 4096 bytes.
    """
    argv = ["lsblk", "--json", "--bytes", "--output", _COLUMNS]
    told = process.run(argv, timeout_s=_COMMAND_S)
    if told.rc:
        raise Refused(DISK, f"lsblk: {told.stderr.strip()}", "dmesg")
    rows = json.loads(told.stdout)["blockdevices"]
    return tuple(_disk(row) for row in rows if _usable(row))


def choose(disks: Sequence[Disk], rule: str) -> Disk:
    """Return the disk that a rule means.

    Raises Refused when none does, or more than one: nothing is guessed.
    """
    found = list(disks)
    for word in rule.split(","):
        found = _narrowed(found, word.strip(), rule)
    if len(found) == 1:
        return found[0]
    there = "; ".join(_told(one) for one in disks) or "no disk at all"
    what = "no disk fits" if not found else f"{len(found)} disks fit"
    raise Refused(DISK, f"{what} the rule {rule!r}: there is {there}", "name it by serial=")


def check_rule(rule: str) -> None:
    """Raise Refused for a rule that is not understood."""
    for word in rule.split(","):
        _narrowed([], word.strip(), rule)


def _narrowed(disks: list[Disk], word: str, rule: str) -> list[Disk]:
    if word.startswith("serial="):
        return [one for one in disks if one.serial == word.removeprefix("serial=")]
    if size := _SIZE.fullmatch(word):
        low, high = (int(number) * _GB for number in size.groups())
        return [one for one in disks if low <= one.bytes <= high]
    kind, _, only = word.partition("-")
    if kind not in ("largest", "smallest") or only not in ("", "nvme"):
        raise Refused(DISK, f"the rule {rule!r} is not understood at {word!r}", _RULES)
    left = [one for one in disks if one.nvme or not only]
    pick = max if kind == "largest" else min
    wanted = pick((one.bytes for one in left), default=0)
    return [one for one in left if one.bytes == wanted]


_RULES = "largest-nvme, smallest-nvme, largest, smallest, serial=S, size=LOW-HIGH in GB"


def _usable(row: dict[str, Any]) -> bool:
    whole = row["type"] == "disk" and row["size"] and row["log-sec"] == _SECTOR
    return bool(whole and not row["rm"] and not row["ro"] and not _in_use(row))


def _in_use(row: dict[str, Any]) -> bool:
    below = row.get("children", ())
    return any(row.get("mountpoints") or ()) or any(_in_use(one) for one in below)


def _disk(row: dict[str, Any]) -> Disk:
    return Disk(
        path=Path(row["path"]),
        bytes=row["size"],
        model=(row["model"] or "").strip(),
        serial=(row["serial"] or "").strip(),
        transport=row["tran"] or "",
    )


def _told(one: Disk) -> str:
    return f"{one.path} {one.bytes // _GB} GB {one.model} serial {one.serial or 'none'}"
