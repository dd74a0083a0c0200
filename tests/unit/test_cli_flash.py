"""`imgbuild flash`: what it asks for before it writes, with plain files as disks."""

from __future__ import annotations

from pathlib import Path

import pytest

from builder.core.process import Runner
from tests.unit.flash_image import DISK, SIZE, make_image
from tests.unit.resolve_project import files
from tests.unit.test_cli import Call, call

__all__ = ["call", "files"]

pytestmark = pytest.mark.allow_commands("lsblk", "wipefs", "sfdisk", "mkfs.vfat", "mcopy")
SURE = ("--yes", "--serial", "none", "--erase")


@pytest.fixture
def image(tmp_path: Path) -> Path:
    return make_image(tmp_path / "out/image")


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    """An empty disk."""
    path = tmp_path / "disk"
    with path.open("wb") as stream:
        stream.truncate(DISK)
    return path


def words(image: Path, disk: Path, *more: str) -> tuple[str, ...]:
    return ("flash", str(disk), "--image", str(image), *more)


def test_a_script_flashes(call: Call, image: Path, disk: Path) -> None:
    ended = call(*words(image, disk, *SURE))
    assert ended.code == 0, ended
    assert f"{disk}: imgbuild-cpu 1.0, verified" in ended.err
    assert "no --seed" in ended.err
    assert "read back: " in ended.err
    assert disk.read_bytes()[:SIZE] == (image / "disk.raw").read_bytes()


def test_a_seed_goes_along(call: Call, image: Path, disk: Path, tmp_path: Path) -> None:
    seed = tmp_path / "node.yaml"
    seed.write_text("#cloud-config\nhostname: gpu-07\n")
    ended = call(*words(image, disk, "--seed", str(seed), *SURE))
    assert ended.code == 0, ended
    assert "verified, with its seed" in ended.err
    assert b"hostname: gpu-07" in disk.read_bytes()


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ((), "no terminal"),
        (("--yes",), "--yes needs --serial"),
        (("--yes", "--serial", "X1"), "not X1"),
        (("--network", "n"), "--network needs --seed"),
        (("--keyring", "k"), "cannot be read"),
    ],
)
def test_nothing_is_written_without_consent(
    call: Call, image: Path, disk: Path, more: tuple[str, ...], told: str
) -> None:
    ended = call(*words(image, disk, *more))
    assert (ended.code, told in ended.err) == (2, True), ended
    assert not any(disk.read_bytes())


def test_a_bad_seed_is_told_before_anything_is_written(
    call: Call, image: Path, disk: Path, tmp_path: Path
) -> None:
    seed, network = tmp_path / "node.yaml", tmp_path / "network"
    seed.write_text("#cloud-config\nhostname: -x-\n")
    network.write_text("version: 7\n")
    more = ("--seed", str(seed), "--network", str(network))
    ended = call(*words(image, disk, *more, *SURE))
    assert ended.code == 2
    assert f"{seed}: hostname" in ended.err
    assert f"{network}: " in ended.err
    assert not any(disk.read_bytes())


@pytest.mark.parametrize(("typed", "code"), [("disk\n", 0), ("dusk\n", 2), ("\n", 2)])
def test_the_name_is_typed_back(
    call: Call,
    image: Path,
    disk: Path,
    typed: str,
    code: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("click.termui.visible_prompt_func", lambda _: typed.strip())
    ended = call(*words(image, disk))
    assert ended.code == code, ended
    assert any(disk.read_bytes()) == (code == 0)
    assert "50.3 MB" in ended.out


@pytest.mark.allow_commands("mkfs.ext4")
def test_a_file_system_needs_erase(call: Call, image: Path, disk: Path) -> None:
    Runner().run(["mkfs.ext4", "-q", disk])
    before = disk.read_bytes()
    ended = call(*words(image, disk, "--yes", "--serial", "none"))
    assert ended.code == 2
    assert "holds ext4 (hint: is it the right one? --erase" in ended.err
    assert disk.read_bytes() == before
    assert call(*words(image, disk, *SURE)).code == 0


def test_an_interrupt_says_what_is_left(
    call: Call, image: Path, disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("builder.flash.job.check", interrupted)
    ended = call(*words(image, disk, *SURE))
    assert ended.code == 2
    assert f"interrupted: {disk} holds no image now" in ended.err
