"""Flashing onto loop devices: from a signed release, and what stands in the way."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from signal import SIGINT, SIGKILL, Signals

import pytest

from builder.core.blockmap import BLOCK
from tests.build.loops import loop, output
from tests.build.press import Press, press, printed

__all__ = ["press", "printed"]

MIB = 1 << 20
DISK = 64 * MIB
SURE = ("--yes", "--serial", "none")


@pytest.fixture
def device(tmp_path: Path) -> Iterator[str]:
    with loop(tmp_path / "backing", DISK) as made:
        yield made


def flash(press: Press, device: str, *more: str, version: str = "1.1") -> tuple[str, ...]:
    """Return the command line that flashes a released version."""
    return ("flash", device, "--image", str(press.folder(version)), *SURE, *more)


def keyring(press: Press, name: str = "one") -> tuple[str, ...]:
    return ("--keyring", str(press.public(name)))


def test_a_signed_release_onto_a_used_disk(press: Press, device: str) -> None:
    with Path(device).open("r+b") as stream:
        stream.write(random.Random(1).randbytes(DISK))  # noqa: S311 - test data
    ended = press.place.run(*flash(press, device, *keyring(press)))
    ended.done()
    assert "verified" in ended.err
    assert "warning: imgbuild-tiny" not in ended.err
    raw = (press.image("1.1") / "disk.raw").read_bytes()
    with Path(device).open("rb") as stream:
        assert stream.read(len(raw)) == raw
        stream.seek(DISK - MIB)
        assert not any(stream.read())
    press.place.nothing_at_work()


def test_bmaptool_writes_the_same(press: Press, tmp_path: Path) -> None:
    """It finds our map by its name, believes its checksums, and writes the same bytes."""
    folder = press.folder("1.1")
    raw = (press.image("1.1") / "disk.raw").read_bytes()
    done = subprocess.run(
        ["bmaptool", "copy", folder / "disk.raw.zst", tmp_path / "copy"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "discovered bmap file" in done.stderr
    assert (tmp_path / "copy").read_bytes() == raw
    output("bmaptool", "create", press.image("1.1") / "disk.raw", "--output", tmp_path / "map")
    source = ("--image", str(press.image("1.1")))
    shutil.copy(tmp_path / "map", press.image("1.1") / "disk.raw.bmap")  # and we take its map
    with (tmp_path / "disk").open("wb") as stream:
        stream.truncate(len(raw))
    press.place.run("flash", str(tmp_path / "disk"), *source, *SURE).done()
    assert (tmp_path / "disk").read_bytes() == raw


def test_an_unknown_key_and_no_key(press: Press, device: str) -> None:
    press.place.run(*flash(press, device, *keyring(press, "two"))).refused("not in the keyring")
    ended = press.place.run(*flash(press, device))
    ended.done()
    assert "nobody has checked its signature" in ended.err


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("SHA256SUMS", "of other bytes"),
        ("release.json", "is not the file that was signed"),
        ("manifest.json", "is not the file that was signed"),
        ("disk.raw.bmap", "is not the file that was signed"),
        ("disk.raw.zst", "is not what its block map says"),
    ],
)
def test_a_damaged_release(press: Press, device: str, name: str, told: str) -> None:
    path = press.folder("1.1") / name
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.chmod(0o644)
    path.write_bytes(data)
    press.place.run(*flash(press, device, *keyring(press))).refused(told)
    with Path(device).open("rb") as stream:
        assert not any(stream.read(MIB))


def test_another_disk_image_that_unpacks_well(press: Press, device: str) -> None:
    """The signature reaches every block by way of the map: one that unpacks is not enough."""
    raw = bytearray((press.image("1.1") / "disk.raw").read_bytes())
    raw[10 * BLOCK] ^= 1
    path, target = press.place.top / "other", press.folder("1.1") / "disk.raw.zst"
    path.write_bytes(raw)
    size = target.stat().st_size
    target.unlink()
    output("zstd", "-q", "-3", "--single-thread", path, "-o", target)
    with target.open("ab") as stream:  # an empty skippable frame fills it up
        missing = size - target.stat().st_size
        assert missing == 0 or missing >= 8
        stream.write(b"\x50\x2a\x4d\x18" + (missing - 8).to_bytes(4, "little") if missing else b"")
        stream.write(bytes(max(0, missing - 8)))
    ended = press.place.run(*flash(press, device, *keyring(press)))
    ended.refused("is not what its block map says")
    with Path(device).open("rb") as disk:
        assert not any(disk.read(MIB))


def test_a_release_without_a_disk(press: Press, device: str) -> None:
    words = flash(press, device, *keyring(press), version="1.0")
    press.place.run(*words).refused("brings no disk image", "--with-disk")


def test_a_mounted_disk(press: Press, device: str, tmp_path: Path) -> None:
    output("mkfs.ext4", "-q", device)
    (tmp_path / "point").mkdir()
    output("mount", device, tmp_path / "point")
    try:
        (tmp_path / "point/file").write_text("kept")
        ended = press.place.run(*flash(press, device, "--erase"))
        ended.refused(f"is mounted at {tmp_path / 'point'}")
    finally:
        output("umount", tmp_path / "point")
    output("fsck.ext4", "-fn", device)
    press.place.run(*flash(press, device)).refused("holds ext4", "--erase")
    press.place.run(*flash(press, device, "--erase")).done()


def test_a_disk_that_another_program_has_for_itself(press: Press, device: str) -> None:
    handle = os.open(device, os.O_RDWR | os.O_EXCL)
    try:
        press.place.run(*flash(press, device)).refused("is in use")
    finally:
        os.close(handle)


def test_disks_that_cannot_take_it(press: Press, tmp_path: Path) -> None:
    with loop(tmp_path / "small", MIB) as device:
        press.place.run(*flash(press, device)).refused("the image needs")
    with loop(tmp_path / "big", DISK, "--sector-size", "4096") as device:
        press.place.run(*flash(press, device)).refused("has sectors of 4096 bytes")
    with loop(tmp_path / "fixed", DISK, "--read-only") as device:
        press.place.run(*flash(press, device)).refused("is read-only")


@pytest.mark.parametrize("number", [SIGKILL, SIGINT])
def test_killed_while_it_writes(press: Press, tmp_path: Path, number: Signals) -> None:
    """No partition table is there then; the next run goes through."""
    image = press.image("1.1")
    size = 768 * MIB
    with (image / "disk.raw").open("r+b") as stream:
        stream.seek(2 * MIB)
        noise = random.Random(2).randbytes(8 * MIB)  # noqa: S311
        for _ in range(size // len(noise)):
            stream.write(noise)
        whole = stream.tell()
    manifest = image / "manifest.json"
    text = manifest.read_text()
    at = text.index('"bytes":', text.index('"name": "disk.raw"'))
    end = text.index(",", at)
    manifest.write_text(f'{text[:at]}"bytes": {whole}{text[end:]}')
    backing = tmp_path / "backing"
    with loop(backing, whole + MIB) as device:
        words = ("flash", device, "--image", str(image), *SURE)
        running = press.place.start(*words)
        limit = time.monotonic() + 60
        while backing.stat().st_blocks * 512 < 40 * MIB:
            assert time.monotonic() < limit
            assert running.process.poll() is None
            time.sleep(0.005)
        ended = running.hit(number)
        if number == SIGINT:
            ended.refused("interrupted", "holds no image now")
        with Path(device).open("rb") as stream:
            assert not any(stream.read(MIB))
        press.place.run(*words, "--erase").done()
        output("cmp", "--bytes", str(whole), device, image / "disk.raw")
