"""A version becomes good: whenever the power goes, an entry of it is there, and whole."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from imgnode.files import flush_folder
from imgnode.gate import bless as blessing
from imgnode.gate.bless import bless, copy_entry

STEM = "imgbuild-x_2"
UKI = b"MZ" + bytes(range(256)) * 40


class PowerCutError(Exception):
    """The power went."""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    facts = tmp_path / "usr/lib/imgnode/image.json"
    facts.parent.mkdir(parents=True)
    facts.write_text(json.dumps({"image_id": "imgbuild-x", "version": "2"}))
    (tmp_path / "boot/EFI/Linux").mkdir(parents=True)
    put(tmp_path, "imgbuild-x_1.efi")
    return tmp_path


def put(root: Path, name: str, data: bytes = UKI) -> None:
    (root / "boot/EFI/Linux" / name).write_bytes(data)


def files(root: Path) -> dict[str, bytes]:
    folder = root / "boot/EFI/Linux"
    return {path.name: path.read_bytes() for path in folder.iterdir() if STEM in path.name}


def test_the_counter_goes_and_the_content_stays(root: Path) -> None:
    put(root, f"{STEM}+2-1.efi")
    assert bless(root)
    assert files(root) == {f"{STEM}.efi": UKI}
    assert (root / "boot/EFI/Linux/imgbuild-x_1.efi").read_bytes() == UKI
    assert not bless(root)
    assert files(root) == {f"{STEM}.efi": UKI}


@pytest.mark.parametrize("step", range(12))
def test_the_power_goes_at_any_step(root: Path, monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    put(root, f"{STEM}+2-1.efi")
    left = iter(range(step))

    def cut(genuine: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*arguments: Any, **words: Any) -> Any:  # noqa: ANN401 - any function's
            if next(left, None) is None:
                raise PowerCutError
            return genuine(*arguments, **words)

        return counted

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", cut(os.fsync))
        patch.setattr("imgnode.gate.bless.flush_folder", cut(flush_folder))
        patch.setattr(Path, "unlink", cut(Path.unlink))
        try:
            bless(root)
        except PowerCutError:
            assert step < 10
    seen = {name: data for name, data in files(root).items() if data[:2] == b"MZ"}
    assert seen
    assert set(seen.values()) == {UKI}
    bless(root)
    assert files(root) == {f"{STEM}.efi": UKI}


def test_the_first_sector_is_written_when_the_rest_is_on_the_disk(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(root, f"{STEM}+2-1.efi")
    target = root / "boot/EFI/Linux" / f"{STEM}.efi"
    flushed: list[bytes] = []
    genuine = os.fsync

    def look(handle: int) -> None:
        genuine(handle)
        flushed.append(target.read_bytes())

    monkeypatch.setattr(os, "fsync", look)
    copy_entry(root / "boot/EFI/Linux" / f"{STEM}+2-1.efi", target)
    assert flushed[0] == bytes(512) + UKI[512:]
    assert flushed[-1] == UKI


def test_of_two_counted_entries_the_whole_one_is_kept(root: Path) -> None:
    """The firmware's renaming was cut, and fsck.vfat(8) has emptied one of the two."""
    put(root, f"{STEM}+2-1.efi", b"")
    put(root, f"{STEM}+3-0.efi")
    assert bless(root)
    assert files(root) == {f"{STEM}.efi": UKI}


def test_an_entry_that_lost_its_long_name_gets_it_again(root: Path) -> None:
    """Only that of the running version; nobody knows what another one is."""
    cmdline = root / "proc/cmdline"
    cmdline.parent.mkdir()
    cmdline.write_text(f"console=ttyS0 roothash={'ab' * 32}\n")
    mine, other = (UKI + f"roothash={pair * 32} ro\0".encode() for pair in ("ab", "cd"))
    put(root, "IMGBUI~1.EFI", mine)
    put(root, "IMGBUI~2.EFI", other)
    put(root, "IMGBUI~3.EFI", b"")
    assert bless(root)
    assert files(root) == {f"{STEM}.efi": mine}
    names = {path.name for path in (root / "boot/EFI/Linux").iterdir()}
    assert names == {f"{STEM}.efi", "imgbuild-x_1.efi", "IMGBUI~2.EFI", "IMGBUI~3.EFI"}
    assert not bless(root)


def test_an_esp_that_is_too_small_for_a_copy(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(root, f"{STEM}+2-1.efi")

    def full(_: Path, target: Path) -> None:
        target.write_bytes(bytes(10))
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(blessing, "copy_entry", full)
    assert bless(root)
    assert files(root) == {f"{STEM}.efi": UKI}
