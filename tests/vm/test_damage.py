"""What the boot chain does with damage: a flipped bit, and a whole version that is broken."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from builder.core.process import Runner
from builder.vm.gpt import Partition, partitions
from builder.vm.session import VmNode
from tests.vm.conftest import BOOT_S, Image, wait_settled

pytestmark = pytest.mark.vm

BLOCK = 4096
FAT = {"MTOOLS_SKIP_CHECK": "1"}


@pytest.fixture(scope="module")
def settled(up: VmNode) -> VmNode:
    """Give a node whose version is blessed, switched off."""
    up.machine.poweroff(BOOT_S)
    return up


def slot(runner: Runner, disk: Path, number: int) -> Partition:
    """Return partition `number` of a disk (ESP, root A, verity A, root B, verity B, …)."""
    return partitions(runner, disk)[number - 1]


def write_at(disk: Path, offset: int, data: bytes) -> None:
    """Overwrite bytes of a disk that no machine uses now."""
    with disk.open("r+b") as stream:
        stream.seek(offset)
        stream.write(data)
        os.fsync(stream.fileno())


def copy_at(source: Path, disk: Path, offset: int) -> None:
    """Write a file into a disk."""
    with source.open("rb") as left, disk.open("r+b") as right:
        right.seek(offset)
        shutil.copyfileobj(left, right)


def test_a_flipped_bit_in_the_root_is_refused(
    settled: VmNode, runner: Runner, image: Image
) -> None:
    root = slot(runner, settled.disk, 2)
    size = (image.folder / "root.erofs").stat().st_size
    block = size // BLOCK // 2
    with settled.disk.open("rb") as stream:
        stream.seek(root.offset + block * BLOCK)
        good = stream.read(BLOCK)
    write_at(settled.disk, root.offset + block * BLOCK, bytes([good[0] ^ 1]) + good[1:])
    try:
        settled.machine.start()
        wait_settled(settled)
        read = f"sudo dd if=/dev/mapper/root bs={BLOCK} skip={{}} count=1 iflag=direct of=/dev/null"
        assert settled.ssh.run(read.format(block - 64)).rc == 0
        bad = settled.ssh.run(read.format(block))
        assert bad.rc != 0
        assert "Input/output error" in bad.stderr
        said = settled.ssh.run("sudo dmesg | grep 'data block'").stdout
        assert f"data block {block} is corrupted" in said
    finally:
        settled.machine.poweroff(BOOT_S)
        write_at(settled.disk, root.offset + block * BLOCK, good)


@pytest.mark.long
def test_a_broken_version_falls_back_after_three_tries(
    settled: VmNode, runner: Runner, image: Image
) -> None:
    """Version 2 lies in slot B with a damaged superblock; version 1 was blessed before."""
    manifest = json.loads((image.folder / "manifest.json").read_text())
    stem = f"{manifest['image_id']}_{manifest['version']}"
    install_broken_second_version(runner, settled.disk, image, manifest["image_id"])
    since = settled.machine.start()
    for _ in range(3):
        since = settled.machine.wait_for("imgnode: rebooting in", BOOT_S, since=since).end
    settled.machine.wait_for("login:", BOOT_S, since=since)
    wait_settled(settled)
    assert settled.ssh.run("sudo ls /boot/EFI/Linux").stdout.split() == [
        f"{stem}.efi",
        f"{manifest['image_id']}_99999999+0-3.efi",
    ]
    assert manifest["version"] in settled.ssh.run("imgnode status").stdout
    assert settled.ssh.run("systemctl --failed --no-legend --plain").stdout == ""


def install_broken_second_version(runner: Runner, disk: Path, image: Image, image_id: str) -> None:
    """Do what an update does, with a root whose first block is wrong, as version 99999999."""
    fake_hash = "ab" * 16 + "cd" * 16
    root, verity = slot(runner, disk, 4), slot(runner, disk, 5)
    copy_at(image.folder / "root.erofs", disk, root.offset)
    write_at(disk, root.offset, b"\xff" * BLOCK)
    copy_at(image.folder / "root.verity", disk, verity.offset)
    for part, uuid in ((root, fake_hash[:32]), (verity, fake_hash[32:])):
        words = f"{uuid[:8]}-{uuid[8:12]}-{uuid[12:16]}-{uuid[16:20]}-{uuid[20:]}"
        runner.run(["sfdisk", "--quiet", "--part-uuid", disk, str(part.number), words])
        runner.run(
            ["sfdisk", "--quiet", "--part-label", disk, str(part.number), f"{image_id}_99999999"]
        )
    uki = disk.with_name("second.efi")
    uki.write_bytes(
        (image.folder / "uki.efi")
        .read_bytes()
        .replace(
            json.loads((image.folder / "manifest.json").read_text())["root_hash"].encode(),
            fake_hash.encode(),
        )
    )
    esp = f"{disk}@@{slot(runner, disk, 1).offset}"
    runner.run(["mcopy", "-i", esp, uki, f"::/EFI/Linux/{image_id}_99999999+3.efi"], env=FAT)
