"""Which disks this host has, and what is on them: lsblk(8), wipefs(8), sfdisk(8)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from builder.core.cidata import PARTITION
from builder.core.errors import UserError
from builder.core.process import CommandError, Runner
from imgnode.install.medium import LABEL as INSTALLER

Holds = Literal["nothing", "image", "files", "foreign"]
_COLUMNS = (
    "NAME,PATH,TYPE,SIZE,MODEL,SERIAL,WWN,RM,HOTPLUG,RO,TRAN,FSTYPE,LABEL,PARTLABEL,"
    "MOUNTPOINTS,LOG-SEC"
)
_SECTOR = 512
_TABLES = {"gpt", "PMBR", "dos"}
_CARRIED = {"vfat", "exfat", "iso9660", "ntfs", "udf"}  # what sticks are sold with, or made to be
_ROOT = "4f68bce3-e8cd-4db1-96e7-fbcaf984b709"  # UAPI.2, Discoverable Partitions, root x86-64


@dataclass(frozen=True)
class Device:
    """A disk, or a plain file that stands for one.

    `holds`: "image" is one of imgbuild's, "files" a removable medium with a file system as those
    are sold with, "foreign" anything else. `contents` says it for people. `mounts` are the mount
    points of it and of what lies on it, `users` the names of active LVM, RAID or encryption.
    """

    path: Path
    kind: str
    bytes: int
    sector: int
    model: str
    serial: str
    removable: bool
    read_only: bool
    mounts: tuple[str, ...]
    users: tuple[str, ...]
    holds: Holds
    contents: str

    @property
    def name(self) -> str:
        """What a person types back."""
        return self.path.name


def removable_devices(runner: Runner) -> list[Device]:
    """Return the sticks, cards and external disks of this host."""
    rows = (row for row in _lsblk(runner) if row["type"] == "disk" and row["size"])
    return [_device(runner, row) for row in rows if _removable(row)]


def find_device(runner: Runner, path: Path) -> Device:
    """Return what is known of one disk or plain file. Raises UserError when it is neither."""
    if path.is_file():
        return _file(runner, path)
    if not path.is_block_device():
        hint = "imgbuild flash lists the removable ones; lsblk all"
        raise UserError(f"{path}: no such disk", hint=hint)
    row = _lsblk(runner, path.resolve())[0]
    if row["type"] not in {"disk", "loop"}:
        hint = "name the whole disk: an image has its own partitions"
        raise UserError(f"{path}: is no disk but a {row['type']}", hint=hint)
    return _device(runner, row)


def _lsblk(runner: Runner, *paths: Path) -> list[dict[str, Any]]:
    told = runner.run(["lsblk", "--json", "--bytes", "--output", _COLUMNS, *paths]).stdout
    rows: list[dict[str, Any]] = json.loads(told)["blockdevices"]
    return rows


def _removable(row: dict[str, Any]) -> bool:
    return bool(row["rm"] or row["hotplug"] or row["tran"] == "usb")


def _device(runner: Runner, row: dict[str, Any]) -> Device:
    path = Path(row["path"])
    below = list(_below(row))
    portable = _removable(row)
    holds, contents = _contents(runner, path, below, portable=portable)
    return Device(
        path=path,
        kind=row["type"],
        bytes=row["size"],
        sector=row["log-sec"],
        model=" ".join((row["model"] or "").split()),
        serial=(row["serial"] or row["wwn"] or "").strip(),
        removable=portable,
        read_only=bool(row["ro"]),
        mounts=tuple(m for one in (row, *below) for m in one.get("mountpoints") or () if m),
        users=tuple(one["name"] for one in below if one["type"] != "part"),
        holds=holds,
        contents=contents,
    )


def _file(runner: Runner, path: Path) -> Device:
    holds, contents = _contents(runner, path, [], portable=False)
    return Device(
        path=path.absolute(),
        kind="file",
        bytes=path.stat().st_size,
        sector=_SECTOR,
        model="plain file",
        serial="",
        removable=False,
        read_only=False,
        mounts=(),
        users=(),
        holds=holds,
        contents=contents,
    )


def _below(row: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for one in row.get("children", ()):
        yield one
        yield from _below(one)


def _contents(
    runner: Runner, path: Path, below: list[dict[str, Any]], *, portable: bool
) -> tuple[Holds, str]:
    """Say what is on a disk: whole-disk signatures, its table, file systems of its partitions.

    The table is read from the disk itself: the kernel may not have looked at it.
    """
    signatures = _signatures(runner, path)
    if not signatures and not below:
        return "nothing", "empty"
    table = _partitions(runner, path) if signatures & _TABLES else []
    image = _image(table)
    if image:
        return "image", image
    kinds = {one["fstype"] for one in below if one["fstype"]} | (signatures - _TABLES)
    if not kinds and not table and not below:
        return "nothing", "an empty partition table"
    told = ", ".join(sorted(kinds)) or "nothing that is known"
    count = max(len(table), sum(one["type"] == "part" for one in below))
    contents = f"{count} partitions: {told}" if count else told
    return ("files" if portable and kinds and kinds <= _CARRIED else "foreign"), contents


def _signatures(runner: Runner, path: Path) -> set[str]:
    try:
        told = runner.run(["wipefs", "--no-act", "--json", path]).stdout
    except CommandError as error:
        hint = "run it as root; is the disk failing? dmesg"
        raise UserError(f"{path}: cannot be read\n{error.output.strip()}", hint=hint) from None
    rows = json.loads(told)["signatures"] if told.strip() else []
    return {row["type"] for row in rows}


def _partitions(runner: Runner, path: Path) -> list[dict[str, Any]]:
    try:
        table = json.loads(runner.run(["sfdisk", "--json", path]).stdout)["partitiontable"]
    except CommandError:
        return [{"type": "damaged"}]
    rows: list[dict[str, Any]] = table.get("partitions", [])
    return rows


def _image(table: list[dict[str, Any]]) -> str:
    """Return which of our images a table is of, "" for none: two slots and a place for the seed.

    An installer's stick has neither, but a partition of its own.
    """
    if INSTALLER in {one.get("name") for one in table}:
        return "an installer"
    slots = [one.get("name", "") for one in table if one["type"].lower() == _ROOT]
    if len(slots) != 2 or PARTITION not in {one.get("name") for one in table}:  # noqa: PLR2004
        return ""
    named = [" ".join(slot.rsplit("_", 1)) for slot in slots if slot != "_empty"]
    return ", ".join(named) or "an image without a version"
