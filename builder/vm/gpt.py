"""Where the partitions of a raw disk lie, as sfdisk(8) reads them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from builder.core.errors import UserError
from builder.core.process import CommandError

if TYPE_CHECKING:
    from pathlib import Path

    from builder.core.process import Runner

SECTOR = 512


@dataclass(frozen=True)
class Partition:
    """A partition: its number from 1, GPT name and UUID; where it begins and its size, in bytes."""

    number: int
    name: str
    uuid: str
    offset: int
    size: int


def partitions(runner: Runner, disk: Path) -> tuple[Partition, ...]:
    """Return the partitions of a disk image, in the order of the table.

    Raises UserError when the file has no GPT.
    """
    try:
        table = json.loads(runner.run(["sfdisk", "--json", disk]).stdout)["partitiontable"]
    except CommandError as error:
        raise UserError(
            f"{disk}: no GUID partition table: {error.output.strip()}",
            hint="is it a raw disk image?",
        ) from None
    return tuple(
        _partition(row, number) for number, row in enumerate(table.get("partitions", []), start=1)
    )


def find_partition(runner: Runner, disk: Path, name: str) -> Partition:
    """Return the first partition of that GPT name. Raises UserError when there is none."""
    for partition in partitions(runner, disk):
        if partition.name == name:
            return partition
    raise UserError(
        f"{disk}: no partition named {name}", hint="only images built by imgbuild take a seed"
    )


def _partition(row: dict[str, Any], number: int) -> Partition:
    return Partition(
        number=number,
        name=row.get("name", ""),
        uuid=row["uuid"].lower(),
        offset=row["start"] * SECTOR,
        size=row["size"] * SECTOR,
    )
