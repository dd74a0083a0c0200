"""The partitions of the disk: made by systemd-repart(8), or those of an image that is there.

What to make is what the version's signed manifest says of its own disk image, so that an installed
disk and a flashed one are alike; `var` is the rest, as on a node's first boot.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from imgnode import process
from imgnode.install.disks import Disk
from imgnode.install.why import TABLE
from imgnode.payload import LayerFile
from imgnode.update.refused import DAMAGED, TOO_LARGE, Refused

_COMMAND_S = 600
_SECTOR = 512
_GB = 10**9
_SPARE = 16 << 20  # the disk's two tables, and what is lost to alignment
EMPTY, CIDATA, VAR = "_empty", "cidata", "var"
_NEW_VAR = "_var"  # until the table and its file systems are whole on the disk
# What a power cut leaves of a table that is being written may look like anybody's: so it is said
# before, between the table and the first partition, and taken back when all is whole.
_MARK_AT, _MARK = 512 << 10, b"imgbuild: a table is being made here\n".ljust(512, b"\0")
_SFDISK = ("sfdisk", "--quiet", "--no-reread", "--no-tell-kernel")
# UAPI.2, Discoverable Partitions Specification, x86-64.
_TYPES = {
    "esp": "c12a7328-f81f-11d2-ba4b-00a0c93ec93b",
    "root-x86-64": "4f68bce3-e8cd-4db1-96e7-fbcaf984b709",
    "root-x86-64-verity": "2c7357ed-ebd2-46d9-aec1-23d437ec2bf5",
    "linux-generic": "0fc63daf-8483-4772-8e79-3d69d8477de4",
    "var": "4d21b016-b534-45c2-a9fb-5c16e091fd2d",
}
_LABEL = re.compile(r"[A-Za-z0-9._-]{1,36}")
# Magic numbers of what `var` may hold, and where they stand.
_EXT4 = (1024 + 56, b"\x53\xef")
_LUKS = (0, b"LUKS\xba\xbe")


@dataclass(frozen=True)
class Partition:
    """A partition, numbered from 1; offset and size in bytes."""

    number: int
    type: str
    label: str
    offset: int
    bytes: int


@dataclass(frozen=True)
class Layout:
    """The partitions of an image on a disk; the slots in the order of the disk."""

    esp: Partition
    roots: tuple[Partition, ...]
    trees: tuple[Partition, ...]
    cidata: Partition
    var: Partition | None  # none: a node makes it, encrypted, on its first boot


@dataclass(frozen=True)
class Wanted:
    """A partition as the manifest names it."""

    type: str
    label: str
    bytes: int


def read_wanted(manifest: dict[str, Any]) -> tuple[Wanted, ...]:
    """Return the partitions that a manifest names, all but `var`. Raises Refused."""
    try:
        rows = [
            Wanted(str(one["type"]), str(one["label"]), int(one["bytes"]))
            for one in manifest["disk"]["partitions"]
            if one["type"] != VAR
        ]
    except (KeyError, TypeError, ValueError) as error:
        raise Refused(DAMAGED, f"the manifest's partitions cannot be understood: {error}") from None
    for one in rows:
        whole = one.bytes > 0 and one.bytes % 4096 == 0
        if one.type not in _TYPES or not _LABEL.fullmatch(one.label) or not whole:
            raise Refused(DAMAGED, f"the manifest's partition {one.label!r} does not fit")
    return tuple(rows)


def least_bytes(
    manifest: dict[str, Any], wanted: Sequence[Wanted], layers: Sequence[LayerFile]
) -> int:
    """Return how large a disk must be: for every partition, and for what `var` gets at once."""
    told = manifest["disk"].get("least_bytes")
    var = sum(one.bytes for one in layers) * 21 // 20  # ext4 keeps some for itself
    own = sum(one.bytes for one in wanted) + var + _SPARE
    return max(own, told if isinstance(told, int) else 0)


def check_size(disk: Disk, least: int) -> None:
    """Raise Refused for a disk that is too small."""
    if disk.bytes < least:
        fact = f"{disk.path}: has {disk.bytes / _GB:.1f} GB, this image needs {least / _GB:.1f} GB"
        raise Refused(TOO_LARGE, fact, "order another disk, or take a profile that needs less")


def read_layout(disk: Path) -> Layout | None:
    """Return the layout of a disk that holds an image, None for any other."""
    told = process.run(["sfdisk", "--json", str(disk)], timeout_s=_COMMAND_S)
    if told.rc:
        return None
    table = json.loads(told.stdout)["partitiontable"]
    found = _by_kind(table.get("partitions", ()), table.get("sectorsize", _SECTOR))
    counts = {kind: len(rows) for kind, rows in found.items()}
    slots = (counts["root-x86-64"], counts["root-x86-64-verity"])
    if slots != (2, 2) or counts["esp"] != 1 or counts["var"] > 1 or counts["linux-generic"] != 1:
        return None
    if found["linux-generic"][0].label != CIDATA:
        return None
    return Layout(
        esp=found["esp"][0],
        roots=tuple(found["root-x86-64"]),
        trees=tuple(found["root-x86-64-verity"]),
        cidata=found["linux-generic"][0],
        var=next(iter(found["var"]), None),
    )


def is_empty(disk: Path) -> bool:
    """Tell whether nothing at all is known to be on a disk (wipefs(8))."""
    told = process.run(["wipefs", "--no-act", "--json", str(disk)], timeout_s=_COMMAND_S)
    return told.rc == 0 and not (told.stdout.strip() and json.loads(told.stdout)["signatures"])


def is_half_made(disk: Path) -> bool:
    """Tell whether a run was cut off while it made the table of a disk that was free."""
    with disk.open("rb") as stream:
        stream.seek(_MARK_AT)
        return stream.read(len(_MARK)) == _MARK


def settle(disk: Path) -> None:
    """Take back that a table is being made. Raises OSError."""
    if is_half_made(disk):
        _write(disk, _MARK_AT, bytes(len(_MARK)))


def has_var(disk: Path, layout: Layout) -> bool:
    """Tell whether `var` has a file system, whole: a run may have been cut off before.

    It may be encrypted: nobody but the node then knows what is in it.
    """
    if layout.var is None or layout.var.label == _NEW_VAR:
        return False
    return _holds(disk, layout.var, _EXT4) or is_encrypted(disk, layout)


def is_encrypted(disk: Path, layout: Layout) -> bool:
    """Tell whether `var` is encrypted."""
    return layout.var is not None and _holds(disk, layout.var, _LUKS)


def plain_var(disk: Path, layout: Layout) -> Partition | None:
    """Return `var` where the installer can open it; None: it is the node's own matter."""
    return None if is_encrypted(disk, layout) else layout.var


def wants_encryption(manifest: dict[str, Any]) -> bool:
    """Tell whether nodes of a version encrypt `var`, which they do on their first boot."""
    return manifest["disk"].get("encrypt_var") is not None


def create(disk: Path, wanted: Sequence[Wanted], work: Path, *, var: bool = True) -> Layout:
    """Write a new table, with a fresh ESP and, if wanted, `var`; slots are empty. Raises Refused.

    Everything that was on the disk is given up.
    """
    folder = work / "repart.d"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for number, one in enumerate(wanted):
        (folder / f"{10 + number}.conf").write_text(_definition(one))
    text = f"[Partition]\nType={VAR}\nLabel={_NEW_VAR}\nFormat=ext4\n"
    if var:
        (folder / "90-var.conf").write_text(text)
    _must(["wipefs", "--all", "--force", str(disk)], disk)
    process.run(["blkdiscard", "--force", str(disk)], timeout_s=_COMMAND_S)  # not all disks can
    _write(disk, _MARK_AT, _MARK)
    words = ["--empty=force", "--dry-run=no", "--discard=no", "--seed=random"]
    _must(["systemd-repart", *words, f"--definitions={folder}", str(disk)], disk)
    layout = read_layout(disk)
    if layout and layout.var:
        _label(disk, layout.var, VAR)  # last: from here on it is kept
        layout = read_layout(disk)
    if layout is None or has_var(disk, layout) is not var:
        # It only warns where a file system cannot be made, and ends well.
        raise Refused(TABLE, f"{disk}: systemd-repart did not make what it should", "dmesg")
    settle(disk)
    return layout


def name_slot(disk: Path, layout: Layout, slot: int, label: str, root_hash: str | None) -> None:
    """Give both partitions of a slot their label, and the halves of the root hash as UUIDs."""
    halves = (root_hash[:32], root_hash[32:]) if root_hash else (None, None)
    for part, half in zip((layout.roots[slot], layout.trees[slot]), halves, strict=True):
        _label(disk, part, label)
        if half:
            where = [str(disk), str(part.number), str(uuid.UUID(half))]
            _must([*_SFDISK, "--part-uuid", *where], disk)


def _write(disk: Path, offset: int, data: bytes) -> None:
    with disk.open("r+b", buffering=0) as stream:
        stream.seek(offset)
        stream.write(data)
        os.fsync(stream.fileno())


def _holds(disk: Path, part: Partition, magic: tuple[int, bytes]) -> bool:
    place, wanted = magic
    with disk.open("rb") as stream:
        stream.seek(part.offset + place)
        return stream.read(len(wanted)) == wanted


def _label(disk: Path, part: Partition, label: str) -> None:
    _must([*_SFDISK, "--part-label", str(disk), str(part.number), label], disk)


def _definition(one: Wanted) -> str:
    label = EMPTY if one.type.startswith("root-") else one.label
    text = f"[Partition]\nType={one.type}\nLabel={label}\n"
    text += f"SizeMinBytes={one.bytes}\nSizeMaxBytes={one.bytes}\n"
    return text + ("Format=vfat\n" if one.type == "esp" else "")


def _by_kind(rows: Sequence[dict[str, Any]], sector: int) -> dict[str, list[Partition]]:
    kinds = {code: kind for kind, code in _TYPES.items()}
    found: dict[str, list[Partition]] = {kind: [] for kind in _TYPES}
    for row in rows:
        kind = kinds.get(row["type"].lower())
        number = re.search(r"[0-9]+$", row["node"])
        if kind and number:
            place = row["start"] * sector, row["size"] * sector
            found[kind].append(Partition(int(number[0]), kind, row.get("name", ""), *place))
    return found


def _must(argv: list[str], disk: Path) -> None:
    done = process.run(argv, timeout_s=_COMMAND_S)
    if done.rc:
        said = " ".join(done.stderr.split())[-300:]
        raise Refused(TABLE, f"{disk}: {argv[0]}: {said}", "dmesg; is the disk in use? lsblk")
