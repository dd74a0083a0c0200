"""Finding the seed's partition, and what is said when it cannot be found."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from builder.core.errors import UserError
from builder.core.process import CommandError, Finished, Runner
from builder.vm.disk import prepare_disk, write_seed
from builder.vm.gpt import Partition, find_partition

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


class FakeSfdisk(Runner):
    """Answers as sfdisk(8) does: a table, or an exit status."""

    def __init__(self, answer: str | None) -> None:
        super().__init__()
        self.answer = answer

    def run(self, argv: Sequence[str | Path], **_: Any) -> Finished:  # noqa: ANN401
        """Return the table, or fail as for a file without one."""
        assert str(argv[0]) == "sfdisk"
        if self.answer is None:
            raise CommandError("sfdisk", "exit status 1", "does not contain a partition table")
        return Finished(self.answer, "")


TABLE = json.dumps(
    {
        "partitiontable": {
            "label": "gpt",
            "partitions": [
                {
                    "node": "d1",
                    "start": 2048,
                    "size": 8,
                    "type": "A",
                    "uuid": "AB-1",
                    "name": "esp",
                },
                {"node": "d2", "start": 4096, "size": 4, "type": "B", "uuid": "AB-2"},
                {
                    "node": "d3",
                    "start": 8192,
                    "size": 4,
                    "type": "B",
                    "uuid": "AB-3",
                    "name": "cidata",
                },
            ],
        }
    }
)


def test_a_partition_is_found_by_its_name(tmp_path: Path) -> None:
    found = find_partition(FakeSfdisk(TABLE), tmp_path / "d", "cidata")
    assert found == Partition(3, "cidata", "ab-3", 8192 * 512, 4 * 512)


def test_a_disk_without_that_partition(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no partition named var"):
        find_partition(FakeSfdisk(TABLE), tmp_path / "d", "var")


def test_a_file_that_is_no_disk(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no GUID partition table"):
        find_partition(FakeSfdisk(None), tmp_path / "d", "cidata")


def test_only_seed_files_are_written(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="passwd: not a seed file"):
        write_seed(Runner(), tmp_path / "d", {"passwd": ""})


def test_an_image_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such disk image"):
        prepare_disk(Runner(), tmp_path / "none", tmp_path / "copy")
    assert not (tmp_path / "copy").exists()
