"""Writing an image to a disk, with plain files as disks."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from builder.core.blockmap import BLOCK
from builder.core.errors import UserError
from builder.core.process import CommandError, Runner
from builder.flash import write
from builder.flash.ahead import Chunk, Take, ahead
from builder.flash.job import flash, make_seed
from builder.flash.source import find_source
from builder.flash.target import PIECE, Target
from tests.unit.flash_image import (
    CIDATA,
    CIDATA_BYTES,
    DISK,
    MIB,
    SIZE,
    USED,
    Phases,
    make_disk,
    make_image,
    source_of,
)

SEED = {"user-data": "#cloud-config\nhostname: gpu-07\n", "meta-data": "instance-id: i\n"}


def put(image: Path, disk: Path, *, verify: bool = True) -> Phases:
    phases = Phases()
    flash(Runner(), disk, source_of(image), None, phases.begin, verify=verify)
    return phases


@pytest.mark.parametrize("with_map", [True, False])
def test_the_disk_is_the_image_and_nothing_else(tmp_path: Path, with_map: bool) -> None:
    """What lay there before is gone, between the data and at the end of the disk, too."""
    image = make_image(tmp_path / "image", with_map=with_map)
    disk = make_disk(tmp_path / "disk")
    phases = put(image, disk)
    written, old = disk.read_bytes(), make_disk(tmp_path / "old").read_bytes()
    assert written[:SIZE] == (image / "disk.raw").read_bytes()
    assert written[SIZE : DISK - MIB] == old[SIZE : DISK - MIB]
    assert written[DISK - MIB :] == bytes(MIB)
    assert len(written) == DISK
    assert phases.told == phases.announced
    assert list(phases.told) == ["clear", "write", "verify"]
    assert phases.told["write"] == sum(count for _, count in USED)


def test_a_disk_of_just_the_size(tmp_path: Path) -> None:
    image, disk = make_image(tmp_path / "image"), make_disk(tmp_path / "disk", SIZE)
    put(image, disk)
    assert disk.read_bytes() == (image / "disk.raw").read_bytes()


def test_a_disk_too_small_stays_as_it_is(tmp_path: Path) -> None:
    image, disk = make_image(tmp_path / "image"), make_disk(tmp_path / "disk", SIZE - MIB)
    before = disk.read_bytes()
    with pytest.raises(UserError, match="is smaller than the image"):
        put(image, disk)
    assert disk.read_bytes() == before


@pytest.mark.allow_commands("mkfs.vfat", "mcopy", "mtype")
def test_the_seed_is_written_and_checked(tmp_path: Path) -> None:
    image, disk = make_image(tmp_path / "image"), make_disk(tmp_path / "disk")
    source, phases = source_of(image), Phases()
    (tmp_path / "work").mkdir()
    seed = make_seed(Runner(), source, SEED, tmp_path / "work")
    assert (tmp_path / "work/cidata").stat().st_mode & 0o777 == 0o600
    flash(Runner(), disk, source, seed, phases.begin, verify=True)
    assert phases.told == phases.announced
    place = f"{disk}@@{CIDATA}"
    for name, text in SEED.items():
        assert Runner().run(["mtype", "-i", place, f"::{name}"]).stdout == text
    written, raw = disk.read_bytes(), (image / "disk.raw").read_bytes()
    end = CIDATA + CIDATA_BYTES
    assert written[CIDATA:end] == (tmp_path / "work/cidata").read_bytes()
    assert written[:CIDATA] == raw[:CIDATA]
    assert written[end:SIZE] == raw[end:]


def test_an_image_without_a_place_for_a_seed(tmp_path: Path) -> None:
    source = source_of(make_image(tmp_path / "image"))
    disk = source.manifest.disk.model_copy(update={"partitions": ()})
    bare = source.manifest.model_copy(update={"disk": disk})
    object.__setattr__(source, "manifest", bare)
    with pytest.raises(UserError, match="no partition for a seed"):
        make_seed(Runner(), source, SEED, tmp_path)


def test_the_partition_table_comes_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image, disk = make_image(tmp_path / "image"), make_disk(tmp_path / "disk")
    order: list[int] = []
    genuine = Target.write

    def noted(self: Target, data: memoryview, offset: int) -> None:
        order.append(offset)
        genuine(self, data, offset)

    monkeypatch.setattr(write, "clear", lambda *_: None)
    monkeypatch.setattr("builder.flash.job.clear", lambda *_: None)
    monkeypatch.setattr(Target, "write", noted)
    put(image, disk)
    assert order[-1] == 0
    assert order.count(0) == 1


def no_image(disk: Path) -> bool:
    return disk.read_bytes()[:MIB] == bytes(MIB)


@pytest.mark.allow_commands("mkfs.vfat", "mcopy")
def test_the_partition_table_comes_when_all_is_good(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image, disk = make_image(tmp_path / "image"), make_disk(tmp_path / "disk")
    source, checks = source_of(image), list[bool]()
    (tmp_path / "work").mkdir()
    seed = make_seed(Runner(), source, SEED, tmp_path / "work")

    def watched(*words: object, **named: int) -> None:
        checks.append(no_image(disk))
        write.check(*words, **named)  # type: ignore[arg-type]

    monkeypatch.setattr("builder.flash.job.check", watched)
    flash(Runner(), disk, source, seed, Phases().begin, verify=True)
    assert checks == [True, True]
    assert not no_image(disk)


@pytest.mark.parametrize("verify", [True, False])
@pytest.mark.parametrize("at", [0, MIB + 5 * MIB, SIZE - 1])
def test_a_damaged_image_leaves_no_half(tmp_path: Path, at: int, verify: bool) -> None:
    image, disk = make_image(tmp_path / "image"), make_disk(tmp_path / "disk")
    with (image / "disk.raw").open("r+b") as stream:
        stream.seek(at)
        byte = stream.read(1)
        stream.seek(at)
        stream.write(bytes([byte[0] ^ 1]))
    with pytest.raises(UserError, match="is not what its block map says"):
        put(image, disk, verify=verify)
    assert no_image(disk)


def test_an_image_cut_short_leaves_no_half(tmp_path: Path) -> None:
    image, disk = make_image(tmp_path / "image"), make_disk(tmp_path / "disk")
    with (image / "disk.raw").open("r+b") as stream:
        stream.truncate(5 * MIB)
    with pytest.raises(UserError, match="is cut short"):
        put(image, disk)
    assert no_image(disk)


@pytest.mark.parametrize("lost", [0, MIB, 16 * MIB, SIZE - BLOCK])
def test_a_disk_that_does_not_keep_what_it_is_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lost: int
) -> None:
    """Such as a stick that claims more than it has."""
    image, disk = make_image(tmp_path / "image"), make_disk(tmp_path / "disk")
    genuine = Target.write

    def forgetful(self: Target, data: memoryview, offset: int) -> None:
        if offset != lost:
            genuine(self, data, offset)

    monkeypatch.setattr(Target, "write", forgetful)
    with pytest.raises(UserError, match="does not hold what was written to it") as caught:
        put(image, disk)
    assert f"between {lost >> 10} and" in caught.value.what
    assert no_image(disk) or not lost  # it does not take that either
    put(image, disk, verify=False)


def test_an_interrupt_leaves_no_half(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image, disk = make_image(tmp_path / "image"), make_disk(tmp_path / "disk")

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("builder.flash.job.check", interrupted)
    with pytest.raises(KeyboardInterrupt):
        put(image, disk)
    assert no_image(disk)


def test_a_map_of_another_image(tmp_path: Path) -> None:
    image = make_image(tmp_path / "image")
    text = (image / "manifest.json").read_text()
    (image / "manifest.json").write_text(text.replace(str(SIZE), str(SIZE + MIB)))
    with pytest.raises(UserError, match=f"is of {SIZE} bytes, not {SIZE + MIB}"):
        source_of(image)


@pytest.mark.parametrize(
    ("keyring", "told"), [(None, "there is no image"), ("keys", "nobody has signed it")]
)
def test_folders_that_are_refused(tmp_path: Path, keyring: str | None, told: str) -> None:
    if keyring:
        make_image(tmp_path / "image")
    with pytest.raises(UserError, match=told):
        find_source(Runner(), tmp_path / "image", tmp_path / keyring if keyring else None)


def test_reading_ahead_hands_errors_on_and_can_be_left() -> None:
    def endless(take: Take) -> Iterator[Chunk]:
        at = 0
        while True:
            yield Chunk(at, take())
            at += PIECE

    def broken(take: Take) -> Iterator[Chunk]:
        yield Chunk(0, take())
        raise ValueError("broken")

    chunks = ahead(endless)
    assert [next(chunks).offset for _ in range(10)] == [n * PIECE for n in range(10)]
    del chunks  # ends the thread that reads
    with pytest.raises(ValueError, match="broken"):
        list(ahead(broken))


def read_too_little(runner: Runner) -> None:
    with runner.reading(["sh", "-c", "echo broken >&2; exit 3"]) as stream:
        assert not stream.read()
        raise EOFError


@pytest.mark.allow_commands("sh", "no-such-program")
def test_a_program_that_is_read_from() -> None:
    runner = Runner()
    with runner.reading(["sh", "-c", "echo hello; sleep 600"]) as stream:
        assert stream.readline() == b"hello\n"
    assert not runner._live
    with pytest.raises(CommandError, match="exit status 3") as caught:
        read_too_little(runner)
    assert "broken" in str(caught.value)
    with pytest.raises(CommandError, match="not found"), runner.reading(["no-such-program"]):
        pass
