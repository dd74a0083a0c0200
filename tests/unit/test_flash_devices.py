"""Which disks are offered and which are refused, by what lsblk, wipefs and sfdisk say."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from builder.core.errors import UserError
from builder.core.process import CommandError
from builder.flash.devices import Device, find_device, removable_devices
from builder.flash.refuse import check_device, check_serial
from tests.unit.fakes import FakeRunner

GB = 10**9
Row = dict[str, Any]


def row(name: str = "sdb", **changes: Any) -> Row:  # noqa: ANN401
    """Return a disk as lsblk 2.38 tells of it: a stick without partitions."""
    values: Row = {
        "name": name,
        "path": f"/dev/{name}",
        "type": "disk",
        "size": 32 * GB,
        "model": "Ultra  Fit ",
        "serial": "4C530001",
        "wwn": None,
        "rm": True,
        "hotplug": True,
        "ro": False,
        "tran": "usb",
        "fstype": None,
        "label": None,
        "partlabel": None,
        "mountpoints": [None],
        "log-sec": 512,
    }
    return {**values, **changes}


def part(name: str = "sdb1", fstype: str | None = None, *mounts: str, **changes: Any) -> Row:  # noqa: ANN401
    found = row(name, type="part", rm=True, fstype=fstype, mountpoints=list(mounts) or [None])
    return {**found, **changes}


class Host(FakeRunner):
    """A host with disks; `signatures` and `table` are those of all of them."""

    def __init__(
        self, *rows: Row, signatures: tuple[str, ...] = (), table: list[Row] | None = None
    ) -> None:
        super().__init__(self._answer_of)
        self.rows, self.signatures, self.table = rows, signatures, table

    def _answer_of(self, words: list[str]) -> str:
        if words[0] == "lsblk":
            named = [one for one in self.rows if one["path"] == words[-1]]
            return json.dumps({"blockdevices": named or list(self.rows)})
        if words[0] == "wipefs":
            rows = [{"type": kind} for kind in self.signatures]
            return json.dumps({"signatures": rows}) if rows else ""
        assert words[0] == "sfdisk"
        if self.table is None:
            raise CommandError("sfdisk", "exit status 1", "no partition table")
        return json.dumps({"partitiontable": {"partitions": self.table}})


ROOT = "4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709"
OURS = [
    {"name": "esp", "type": "C12A7328-F81F-11D2-BA4B-00A0C93EC93B"},
    {"name": "imgbuild-cpu_2026.1", "type": ROOT},
    {"name": "_empty", "type": ROOT},
    {"name": "cidata", "type": "0FC63DAF-8483-4772-8E79-3D69D8477DE4"},
]


def only(host: Host) -> Device:
    found = removable_devices(host)
    assert len(found) == 1
    return found[0]


def test_a_stick_is_offered_with_what_tells_it_apart() -> None:
    found = only(Host(row()))
    assert (found.name, found.bytes, found.model, found.serial) == (
        "sdb",
        32 * GB,
        "Ultra Fit",
        "4C530001",
    )
    assert (found.holds, found.contents) == ("nothing", "empty")


@pytest.mark.parametrize(
    "other",
    [
        row("nvme0n1", rm=False, hotplug=False, tran="nvme"),
        row("sr0", type="rom"),
        row("loop0", type="loop"),
        row("sdc", size=0),
    ],
)
def test_other_disks_are_not_offered(other: Row) -> None:
    assert [one.name for one in removable_devices(Host(row(), other))] == ["sdb"]


@pytest.mark.parametrize(
    ("below", "signatures", "table", "holds", "contents"),
    [
        ([], ("gpt", "PMBR"), [], "nothing", "an empty partition table"),
        ([], ("gpt", "PMBR"), OURS, "image", "imgbuild-cpu 2026.1"),
        ([part()], ("gpt", "PMBR"), OURS, "image", "imgbuild-cpu 2026.1"),
        ([], ("vfat",), None, "files", "vfat"),
        ([part(fstype="exfat")], ("dos",), [{"type": "7"}], "files", "1 partitions: exfat"),
        ([part(fstype="ext4")], ("dos",), [{"type": "83"}], "foreign", "1 partitions: ext4"),
        (
            [part(fstype="vfat"), part("sdb2", "crypto_LUKS")],
            ("gpt", "PMBR"),
            [{"type": "x"}, {"type": "y"}],
            "foreign",
            "2 partitions: crypto_LUKS, vfat",
        ),
        ([], ("LVM2_member",), None, "foreign", "LVM2_member"),
        ([], ("gpt",), [{"type": "x"}], "foreign", "1 partitions: nothing that is known"),
        ([], ("gpt",), None, "foreign", "1 partitions: nothing that is known"),
        ([], ("gpt", "PMBR"), OURS[:3], "foreign", "3 partitions: nothing that is known"),
        ([], ("gpt", "PMBR"), [OURS[1], OURS[3]], "foreign", "2 partitions: nothing that is known"),
    ],
)
def test_what_is_on_a_disk(
    below: list[Row],
    signatures: tuple[str, ...],
    table: list[Row] | None,
    holds: str,
    contents: str,
) -> None:
    host = Host(row(children=below) if below else row(), signatures=signatures, table=table)
    found = only(host)
    assert (found.holds, found.contents) == (holds, contents)


def test_files_on_an_internal_disk_are_foreign(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "is_block_device", lambda _: True)
    host = Host(row(rm=False, hotplug=False, tran="sata"), signatures=("vfat",))
    assert find_device(host, Path("/dev/sdb")).holds == "foreign"


def test_a_partition_is_no_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "is_block_device", lambda _: True)
    with pytest.raises(UserError, match="is no disk but a part"):
        find_device(Host(part()), Path("/dev/sdb1"))


def test_a_plain_file_stands_for_a_disk(tmp_path: Path) -> None:
    (tmp_path / "disk").write_bytes(bytes(4096))
    found = find_device(Host(), tmp_path / "disk")
    assert (found.kind, found.bytes, found.sector, found.holds) == ("file", 4096, 512, "nothing")
    with pytest.raises(UserError, match="no such disk"):
        find_device(Host(), tmp_path / "none")


def test_mounts_and_users_are_looked_for_in_depth() -> None:
    volume = part("vg-data", "ext4", "/srv", type="lvm")
    found = only(Host(row(children=[part(children=[volume])])))
    assert (found.mounts, found.users) == (("/srv",), ("vg-data",))


GOOD = only(Host(row()))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"mounts": ("/boot", "/srv")}, "this host runs from it (/boot)"),
        ({"mounts": ("[SWAP]",)}, "this host runs from it ([SWAP])"),
        ({"mounts": ("/media/stick",)}, "is mounted at /media/stick"),
        ({"users": ("md0",)}, "is in use by md0"),
        ({"read_only": True}, "is read-only"),
        ({"sector": 4096}, "has sectors of 4096 bytes"),
        ({"bytes": 4 * GB - 1}, "has 4.0 GB, the image needs 4.0 GB"),
        ({"holds": "foreign", "contents": "2 partitions: zfs_member"}, "zfs_member"),
    ],
)
@pytest.mark.parametrize("erase", [False, True])
def test_what_is_refused(change: dict[str, Any], told: str, erase: bool) -> None:
    device = replace(GOOD, **change)
    check_device(GOOD, 4 * GB, erase=erase)
    if erase and device.holds == "foreign":
        check_device(device, 4 * GB, erase=True)
        return
    with pytest.raises(UserError) as caught:
        check_device(device, 4 * GB, erase=erase)
    assert told in caught.value.what
    assert caught.value.hint


@pytest.mark.parametrize("holds", ["nothing", "image", "files"])
def test_what_is_taken(holds: Any) -> None:  # noqa: ANN401
    check_device(replace(GOOD, holds=holds), GOOD.bytes, erase=False)


Check = Callable[[], None]


@pytest.mark.parametrize(
    ("there", "said", "told"),
    [
        ("4C530001", None, "needs --serial"),
        ("4C530001", "4C530002", "has the serial number 4C530001, not 4C530002"),
        ("4C530001", "none", "not none"),
        ("", "4C530001", "has the serial number none"),
    ],
)
def test_the_wrong_serial(there: str, said: str | None, told: str) -> None:
    with pytest.raises(UserError, match=told):
        check_serial(replace(GOOD, serial=there), said)


def test_the_right_serial() -> None:
    check_serial(GOOD, "4C530001")
    check_serial(replace(GOOD, serial=""), "none")
