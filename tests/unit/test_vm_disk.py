"""Finding the seed's partition, and what is said when it cannot be found."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import pytest

from builder.core.errors import UserError
from builder.core.process import Runner
from builder.vm.disk import prepare_disk, write_seed
from builder.vm.gpt import Partition, find_partition

if TYPE_CHECKING:
    from pathlib import Path


def gpt_disk(path: Path, *partitions: tuple[str, int, int]) -> Path:
    """Write a disk with (name, first sector, last sector) partitions."""
    header = struct.pack("<8s64xQII", b"EFI PART", 2, 4, 128)
    entries = [
        struct.pack("<16s16xQQ8x72s", b"T" * 16, first, last, name.encode("utf-16-le"))
        for name, first, last in partitions
    ]
    path.write_bytes(b"\0" * 512 + header.ljust(512, b"\0") + b"".join(entries).ljust(2048, b"\0"))
    return path


def test_a_partition_is_found_by_its_name_in_any_case(tmp_path: Path) -> None:
    disk = gpt_disk(tmp_path / "d", ("esp", 2048, 4095), ("cidata", 4096, 4099))
    assert find_partition(disk, "CIDATA") == Partition("cidata", 4096 * 512, 4 * 512)


def test_a_disk_without_that_partition(tmp_path: Path) -> None:
    disk = gpt_disk(tmp_path / "d", ("esp", 2048, 4095))
    with pytest.raises(UserError, match="no partition named cidata"):
        find_partition(disk, "cidata")


@pytest.mark.parametrize(
    "content", [b"", b"\0" * 4096, b"EFI PART" * 512], ids=["empty", "zeros", "nonsense"]
)
def test_a_file_that_is_no_disk(tmp_path: Path, content: bytes) -> None:
    disk = tmp_path / "d"
    disk.write_bytes(content)
    with pytest.raises(UserError):
        find_partition(disk, "cidata")


def test_only_seed_files_are_written(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="passwd: not a seed file"):
        write_seed(Runner(), tmp_path / "d", {"passwd": ""})


def test_an_image_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such disk image"):
        prepare_disk(Runner(), tmp_path / "none", tmp_path / "copy")
    assert not (tmp_path / "copy").exists()
