"""The disk image: sizes that must fit, and what its description says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from builder.core.errors import UserError
from builder.disk.gpt import _check_esp, _described, _fill_esp, verity_slot_bytes
from builder.disk.image import _artifacts
from builder.disk.uki import build_uki, kernel_command_line
from builder.model.artifacts import RootImage
from tests.unit.fakes import EPOCH, IDENTITY, FakeRunner, context, root_image, sandbox, spec

MIB, GIB = 1 << 20, 1 << 30
BLOCK, DIGESTS = 4096, 4096 // 32


def hash_tree_bytes(data: int) -> int:
    """Return the size of a verity partition's content, by dm-verity's definition.

    One block of superblock, then for each level one block for every 128 of the level below,
    down to a single block.
    """
    blocks, total = -(-data // BLOCK), 1
    while blocks > 1:
        blocks = -(-blocks // DIGESTS)
        total += blocks
    return total * BLOCK


def test_the_definition_agrees_with_veritysetup() -> None:
    """Sizes that veritysetup 2.6.1 made for a root image of the cpu profile."""
    assert hash_tree_bytes(151_224_320) == 1_204_224


@pytest.mark.parametrize("mib", [1, 2, 127, 128, 129, 512, 1000, 1024, 2048, 8192, 16384, 65536])
def test_a_verity_slot_holds_the_tree_of_a_full_root_slot(mib: int) -> None:
    slot = verity_slot_bytes(mib * MIB)
    needed = hash_tree_bytes(mib * MIB)
    assert needed <= slot
    assert slot % MIB == 0
    assert slot - needed <= 3 * MIB + needed // 64


def uki(tmp_path: Path, size: int) -> Path:
    path = tmp_path / "uki.efi"
    with path.open("wb") as stream:
        stream.truncate(size)
    return path


def test_an_esp_holds_two_kernel_images(tmp_path: Path) -> None:
    _check_esp(spec(), uki(tmp_path, 31 * MIB))


def test_an_esp_too_small_says_how_large_it_must_be(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="64 MiB cannot hold two kernel images") as caught:
        _check_esp(spec(), uki(tmp_path, 32 * MIB))
    assert caught.value.what.startswith("profile cpu: disk.esp: ")
    assert caught.value.hint == "set disk.esp to at least 81MiB"


def test_the_command_line_is_sealed_with_the_root_hash(tmp_path: Path) -> None:
    root = root_image(tmp_path)
    words = kernel_command_line(spec(), root).split(" ")
    assert words[0] == f"roothash={root.root_hash}"
    assert {"ro", "rootfstype=erofs", "panic=10", "systemd.crash_reboot=yes"} <= set(words)
    assert words[-1] == "console=ttyS0"


def test_the_uki_carries_identity_and_command_line(tmp_path: Path) -> None:
    seen = {}

    def answer(words: list[str]) -> str:
        release = next(w for w in words if w.startswith("--os-release=@"))
        seen["release"] = Path(release.removeprefix("--os-release=@")).read_text()
        seen["words"] = " ".join(words)
        return ""

    root = root_image(tmp_path)
    box = sandbox(tmp_path, answer)
    build_uki(context(tmp_path), box, spec(), IDENTITY, root, tmp_path / "initrd", tmp_path / "uki")
    assert "IMAGE_ID=imgbuild-cpu\nIMAGE_VERSION=2026.1\n" in seen["release"]
    assert f"--cmdline={kernel_command_line(spec(), root)}" in seen["words"]
    assert f"--uname={root.kernel_release}" in seen["words"]
    assert isinstance(box.runner, FakeRunner)
    assert box.runner.envs[0]["SOURCE_DATE_EPOCH"] == str(EPOCH)


def test_the_esp_starts_with_three_tries(tmp_path: Path) -> None:
    box = sandbox(tmp_path)
    loader = box.tools / "usr/lib/systemd/boot/efi/systemd-bootx64.efi"
    loader.parent.mkdir(parents=True)
    loader.write_text("loader")
    (tmp_path / "image/esp/loader").mkdir(parents=True)
    (tmp_path / "image/esp/loader/loader.conf").write_text("timeout 0\n")
    kernel = uki(tmp_path, MIB)
    esp = tmp_path / "esp"
    _fill_esp(context(tmp_path), box, IDENTITY, kernel, esp, None)
    files = sorted(str(path.relative_to(esp)) for path in esp.rglob("*") if path.is_file())
    assert files == [
        "EFI/BOOT/BOOTX64.EFI",
        "EFI/Linux/imgbuild-cpu_2026.1+3.efi",
        "EFI/systemd/systemd-bootx64.efi",
        "loader/loader.conf",
    ]
    assert {path.stat().st_mtime for path in (esp, *esp.rglob("*"))} == {EPOCH}


class Disk:
    """A tiny disk file, and what systemd-repart would say of it."""

    def __init__(self, tmp_path: Path) -> None:
        self.root: RootImage = root_image(tmp_path)
        self.root.erofs.write_bytes(b"r" * 5000)
        self.root.verity.write_bytes(b"v" * 3000)
        self.path = tmp_path / "disk.raw"
        self.path.write_bytes(b"\0" * 8192 + b"r" * 5000 + b"\0" * 3192 + b"v" * 3000)

    def table(self) -> list[dict[str, Any]]:
        rows = [
            ("esp", "esp", 0),
            (IDENTITY.stem, "root-x86-64", 8192),
            (IDENTITY.stem, "root-x86-64-verity", 16384),
            ("_empty", "root-x86-64", 20480),
        ]
        return [
            {"label": label, "type": kind, "uuid": "u", "offset": offset, "raw_size": 4096}
            for label, kind, offset in rows
        ]


def test_the_description_names_what_each_slot_holds(tmp_path: Path) -> None:
    disk = Disk(tmp_path)
    image = _described(disk.table(), IDENTITY, disk.root, None, disk.path)
    assert [part.source for part in image.partitions] == [None, "root.erofs", "root.verity", None]
    assert image.bytes == disk.path.stat().st_size
    assert image.name == "disk.raw"


@pytest.mark.parametrize("byte", [8192, 8192 + 4999, 16384 + 2999])
def test_a_slot_that_differs_from_its_source_is_refused(tmp_path: Path, byte: int) -> None:
    """systemd-repart only warns when a copy fails, and ends with an empty slot."""
    disk = Disk(tmp_path)
    content = bytearray(disk.path.read_bytes())
    content[byte] ^= 1
    disk.path.write_bytes(content)
    with pytest.raises(UserError, match="is not what was written") as caught:
        _described(disk.table(), IDENTITY, disk.root, None, disk.path)
    assert IDENTITY.stem in caught.value.what


def test_a_disk_cut_short_is_refused(tmp_path: Path) -> None:
    disk = Disk(tmp_path)
    disk.path.write_bytes(disk.path.read_bytes()[:-1])
    with pytest.raises(UserError, match="is not what was written"):
        _described(disk.table(), IDENTITY, disk.root, None, disk.path)


def test_artifacts_are_listed_in_order_with_their_digests(tmp_path: Path) -> None:
    for name in ("b", "a"):
        (tmp_path / name).write_text(name)
    first, second = _artifacts(tmp_path)
    assert (first.name, second.name) == ("a", "b")
    assert first.sha256 == "ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb"
    assert first.bytes == 1
