"""Finding the seed's partition by sysfs, and reading no more of it than is allowed."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from imgnode import seeddisk
from imgnode.process import Finished
from imgnode.seed import LIMITS, META, USER
from imgnode.seeddisk import find_seed, own_partitions, read_files


def block(root: Path, disk: str, *partitions: tuple[str, str]) -> Path:
    """Add a disk to a sysfs, with partitions by name and GPT name."""
    folder = root / "sys/devices/pci" / disk
    for name, label in partitions:
        (folder / name).mkdir(parents=True)
        (folder / name / "partition").write_text("1\n")
        (folder / name / "uevent").write_text(f"MAJOR=254\nDEVNAME={name}\nPARTNAME={label}\n")
    (folder / "queue").mkdir(parents=True)
    (folder / "uevent").write_text(f"DEVNAME={disk}\n")
    return folder


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Give a root on dm-verity over two partitions of vda, beside a twin disk vdb."""
    parts = (("vda2", "imgbuild_1"), ("vda3", "imgbuild_1"), ("vda6", "cidata"))
    disk = block(tmp_path, "vda", *parts)
    block(tmp_path, "vdb", ("vdb6", "cidata"))
    verity = tmp_path / "sys/devices/virtual/block/dm-0"
    (verity / "slaves").mkdir(parents=True)
    for name in ("vda2", "vda3"):
        (disk / name / "slaves").mkdir()
        (verity / "slaves" / name).symlink_to(disk / name)
    number = tmp_path.stat().st_dev
    link = tmp_path / f"sys/dev/block/{os.major(number)}:{os.minor(number)}"
    link.parent.mkdir(parents=True)
    link.symlink_to(verity)
    return tmp_path


class Disks:
    """Plays mount, umount, udevadm and lsblk; `content` is by device."""

    def __init__(self, content: dict[str, dict[str, bytes]], labels: dict[str, str]) -> None:
        self.content = content
        self.labels = labels
        self.mounted: list[str] = []

    def __call__(self, argv: list[str], *, timeout_s: float) -> Finished:
        assert timeout_s <= 60
        if argv[0] == "lsblk":
            rows = [{"name": name, "label": label} for name, label in self.labels.items()]
            return Finished(0, json.dumps({"blockdevices": rows}), "")
        if argv[0] == "umount":
            for path in Path(argv[-1]).iterdir():
                path.unlink()
        if argv[0] == "mount":
            assert argv[argv.index("-o") + 1] == "ro,nosuid,nodev,noexec"
            self.mounted.append(argv[-2])
            if argv[-2] not in self.content:
                return Finished(32, "", "mount: wrong fs type,\n bad superblock\n")
            for name, data in self.content[argv[-2]].items():
                (Path(argv[-1]) / name).write_bytes(data)
        return Finished(0, "", "")


def play(
    monkeypatch: pytest.MonkeyPatch,
    content: dict[str, dict[str, bytes]],
    labels: dict[str, str] | None = None,
) -> Disks:
    disks = Disks(content, labels or {})
    monkeypatch.setattr(seeddisk, "run", disks)
    return disks


def test_the_partition_beside_the_root_is_ours(root: Path) -> None:
    assert own_partitions(root) == ["/dev/vda6"]


def test_a_root_that_is_no_block_device_has_none(tmp_path: Path) -> None:
    assert own_partitions(tmp_path) == []


def test_the_own_seed_wins_over_a_twin(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disks = play(monkeypatch, {"/dev/vda6": {USER: b"own"}}, {"/dev/vdb6": "CIDATA"})
    found = find_seed(root)
    assert (found.device, found.files) == ("/dev/vda6", {USER: b"own"})
    assert disks.mounted == ["/dev/vda6"]
    assert not list((root / "run/imgnode/seed-mount").iterdir())


def test_an_attached_drive_serves_where_the_own_partition_is_empty(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content: dict[str, dict[str, bytes]] = {"/dev/vda6": {}, "/dev/sr0": {USER: b"x"}}
    play(monkeypatch, content, {"/dev/sda1": "DATA", "/dev/sr0": "cidata", "/dev/vda6": "CIDATA"})
    assert find_seed(root).device == "/dev/sr0"


def test_an_empty_partition_is_no_seed(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    play(monkeypatch, {"/dev/vda6": {}})
    found = find_seed(root)
    assert found.device is None
    assert str(found.problems[0]).startswith("seed: /dev/vda6 holds no user-data (hint: ")


def test_a_partition_without_file_system(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    play(monkeypatch, {})
    (problem,) = find_seed(root).problems
    assert problem.fact == ("/dev/vda6 cannot be mounted: mount: wrong fs type, bad superblock")


def test_no_partition_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    play(monkeypatch, {})
    assert "there is no partition CIDATA" in str(find_seed(tmp_path).problems[0])


def test_a_mute_lsblk_is_no_fault(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(seeddisk, "run", lambda *_, **__: Finished(124, "", "no end"))
    assert "cannot be mounted" in str(find_seed(root).problems[0])


def test_a_disk_that_fails_while_it_is_read(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: Path) -> dict[str, bytes]:
        raise OSError(5, "Input/output error")

    play(monkeypatch, {"/dev/vda6": {USER: b"x"}})
    monkeypatch.setattr(seeddisk, "read_files", fail)
    assert "cannot be read: Input/output error" in str(find_seed(root).problems[0])


def test_no_more_is_read_than_is_allowed(tmp_path: Path) -> None:
    (tmp_path / USER).write_bytes(b"x" * (10 << 20))
    (tmp_path / "other").write_bytes(b"x")
    (tmp_path / META).mkdir()
    found = read_files(tmp_path)
    assert set(found) == {USER}
    assert len(found[USER]) == LIMITS[USER] + 1


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("x")
    (tmp_path / USER).symlink_to(tmp_path / "secret")
    with pytest.raises(OSError, match="symbolic"):
        read_files(tmp_path)
