"""Where a partition of a raw disk begins, read from its GPT without any tool."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO

from builder.core.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SECTOR = 512
_MAGIC = b"EFI PART"
_TABLE_LIMIT = 1 << 20
# From byte 72 of the header: first sector of the table, number and size of its entries.
_HEADER = struct.Struct("<8s64xQII")
# Type and own UUID (skipped), first and last sector, flags (skipped), UTF-16 name.
_ENTRY = struct.Struct("<16s16xQQ8x72s")


@dataclass(frozen=True)
class Partition:
    """A partition: its GPT name, where it begins and how long it is, in bytes."""

    name: str
    offset: int
    size: int


def find_partition(disk: Path, name: str) -> Partition:
    """Return the first partition of that GPT name, in any case.

    Sectors have 512 bytes. Raises UserError when the disk has no GPT or no such partition.
    """
    with disk.open("rb") as stream:
        for partition in _partitions(stream, disk):
            if partition.name.lower() == name.lower():
                return partition
    raise UserError(
        f"{disk}: no partition named {name}", hint="only images built by imgbuild take a seed"
    )


def _partitions(stream: BinaryIO, disk: Path) -> Iterator[Partition]:
    stream.seek(SECTOR)
    header = stream.read(_HEADER.size).ljust(_HEADER.size, b"\0")
    magic, table, count, size = _HEADER.unpack(header)
    if magic != _MAGIC or size < _ENTRY.size or count * size > _TABLE_LIMIT:
        raise UserError(f"{disk}: no GUID partition table", hint="is it a raw disk image?")
    stream.seek(table * SECTOR)
    entries = stream.read(count * size)
    for start in range(0, len(entries) - _ENTRY.size + 1, size):
        kind, first, last, label = _ENTRY.unpack_from(entries, start)
        if kind.strip(b"\0"):
            name = label.decode("utf-16-le", errors="replace").partition("\0")[0]
            yield Partition(name, first * SECTOR, (last - first + 1) * SECTOR)
