"""What the judge of power cuts reads by real tools: an ESP, a partition table."""

from __future__ import annotations

import hashlib
import struct
import zlib
from pathlib import Path

import pytest

from builder.core.process import Runner
from tests.powercut.bootloader import Uki
from tests.powercut.esp import read_esp
from tests.powercut.judge import first_table_is_good

UKI = b"MZ" + bytes(range(256)) * 30
OTHER = b"MZ" + bytes(range(256)) * 20
VERSIONS = {hashlib.sha256(UKI).hexdigest(): "1", hashlib.sha256(OTHER).hexdigest(): "2"}
TOOLS = ("mkfs.vfat", "mmd", "mcopy", "mdir", "fsck.vfat")

pytestmark = pytest.mark.allow_commands(*TOOLS)


@pytest.fixture
def esp(tmp_path: Path) -> Path:
    """Make a FAT with two entries, good and on trial."""
    image, run = tmp_path / "esp.part", Runner().run
    run(["mkfs.vfat", "-F", "32", "-s", "1", "--invariant", "-C", image, "40000"])
    run(["mmd", "-i", image, "::/EFI", "::/EFI/Linux"])
    for name, data in (("x_1.efi", UKI), ("x_2+3-0.efi", OTHER), (".#sysupdatex", b"half")):
        file = tmp_path / "file"
        file.write_bytes(data)
        run(["mcopy", "-i", image, file, f"::/EFI/Linux/{name}"])
    return image


def short_entry(image: Path, size: int) -> int:
    """Return where the FAT's entry of a file of that size lies (fatgen103, directory entries)."""
    data = image.read_bytes()
    tail = struct.pack("<I", size)
    return next(
        at
        for at in range(0, len(data), 32)
        if data[at + 28 : at + 32] == tail and data[at + 8 : at + 11] == b"EFI"
    )


def test_an_esp_is_read_with_its_versions(esp: Path, tmp_path: Path) -> None:
    found = read_esp(Runner(), esp, VERSIONS, tmp_path / "ukis")
    assert set(found.files) == {
        Uki("x_1.efi", len(UKI), "1"),
        Uki("x_2+3-0.efi", len(OTHER), "2"),
        Uki(".#sysupdatex", 4, None, readable=False),
    }
    assert found.faults == ()
    assert 30_000_000 < found.free < 41_000_000


def test_two_files_on_the_same_clusters_are_a_fault(esp: Path, tmp_path: Path) -> None:
    data = bytearray(esp.read_bytes())
    first, second = short_entry(esp, len(UKI)), short_entry(esp, len(OTHER))
    data[second + 26 : second + 28] = data[first + 26 : first + 28]
    esp.write_bytes(data)
    assert any(
        "share clusters" in one for one in read_esp(Runner(), esp, {}, tmp_path / "u").faults
    )
    Runner().run(["fsck.vfat", "-a", esp], ok=(0, 1))
    checked = read_esp(Runner(), esp, VERSIONS, tmp_path / "ukis")
    assert checked.faults == ()
    assert [one.version for one in checked.files if one.readable] == ["1"]


def test_an_entry_without_content_is_no_program(esp: Path, tmp_path: Path) -> None:
    data = bytearray(esp.read_bytes())
    at = short_entry(esp, len(OTHER))
    data[at + 26 : at + 32] = bytes(6)
    esp.write_bytes(data)
    found = read_esp(Runner(), esp, VERSIONS, tmp_path / "ukis")
    assert Uki("x_2+3-0.efi", 0, None, readable=False) in found.files
    assert any("Reclaimed" in note for note in found.notes)


def test_a_first_table_is_good_by_its_checksums(tmp_path: Path) -> None:
    entries = bytes(range(128)) * 4
    rest = struct.pack("<QIII", 2, 4, 128, zlib.crc32(entries))
    header = struct.pack("<8sIIII48x", b"EFI PART", 1 << 16, 92, 0, 0) + rest
    header = header[:16] + struct.pack("<I", zlib.crc32(header)) + header[20:]
    disk = tmp_path / "disk"
    disk.write_bytes(bytes(512) + header.ljust(512, b"\0") + entries)
    assert first_table_is_good(disk)
    disk.write_bytes(bytes(512) + header.ljust(512, b"\0") + entries[:-1] + b"\0")
    assert not first_table_is_good(disk)
    disk.write_bytes(bytes(4096))
    assert not first_table_is_good(disk)
