"""The two slots of this node's disk."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

from imgnode import process
from imgnode.update.refused import WRITE, Refused

_COMMAND_S = 30
# UAPI.2, Discoverable Partitions Specification, x86-64.
_ROOT = "4f68bce3-e8cd-4db1-96e7-fbcaf984b709"
_VERITY = "2c7357ed-ebd2-46d9-aec1-23d437ec2bf5"


@dataclass(frozen=True)
class Slot:
    """One slot: the label that names its version, its two partitions, their sizes in bytes."""

    label: str
    root: Path
    root_bytes: int
    verity: Path
    verity_bytes: int


def find_slots(root: Path = Path("/")) -> tuple[Slot, ...]:
    """Return the slots of the disk that the root lies on, in the disk's order. Raises Refused."""
    number = root.stat().st_dev
    device = f"/dev/block/{os.major(number)}:{os.minor(number)}"
    above = process.run(["lsblk", "-nrspo", "NAME,TYPE", device], timeout_s=_COMMAND_S)
    disks = sorted({row.split()[0] for row in above.stdout.splitlines() if row.endswith(" disk")})
    if above.rc or len(disks) != 1:
        raise Refused(WRITE, "the disk that the root lies on cannot be told", "lsblk")
    # The table itself: what udev knows of it, and so lsblk, comes later.
    told = process.run(["sfdisk", "--json", disks[0]], timeout_s=_COMMAND_S)
    if told.rc:
        raise Refused(WRITE, f"{disks[0]}: its partitions cannot be listed: {told.stderr.strip()}")
    table = json.loads(told.stdout)["partitiontable"]
    rows = table["partitions"]
    roots = [row for row in rows if row["type"].lower() == _ROOT]
    trees = [row for row in rows if row["type"].lower() == _VERITY]
    if len(roots) != len(trees) or len(roots) != 2:  # noqa: PLR2004 - A and B
        fact = f"{disks[0]}: has {len(roots)} root and {len(trees)} verity partitions, not two"
        raise Refused(WRITE, fact, "install this node anew")
    return tuple(
        Slot(
            label=one.get("name", ""),
            root=Path(one["node"]),
            root_bytes=one["size"] * table["sectorsize"],
            verity=Path(tree["node"]),
            verity_bytes=tree["size"] * table["sectorsize"],
        )
        for one, tree in zip(roots, trees, strict=True)
    )


def other_slot(stem: str, root: Path = Path("/")) -> Slot:
    """Return the slot that does not hold the running version. Raises Refused."""
    others = [slot for slot in find_slots(root) if slot.label != stem]
    if len(others) != 1:
        raise Refused(WRITE, f"not exactly one slot is labelled {stem}", "lsblk -o +PARTLABEL")
    return others[0]
