"""Block maps: what they say of an image, and what is not believed."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from builder.core.blockmap import (
    BLOCK,
    BlockMap,
    Extent,
    Range,
    map_text,
    parse_map,
    read_map,
)
from builder.core.blockscan import scan, wrong_range
from builder.core.errors import UserError

ONE = hashlib.sha256(b"x" * BLOCK).hexdigest()


def image(path: Path, blocks: int, *used: int, more: int = 0) -> Path:
    """Write an image whose `used` blocks hold data and whose others are holes."""
    with path.open("wb") as stream:
        stream.truncate(blocks * BLOCK + more)
        for number in used:
            stream.seek(number * BLOCK)
            stream.write(b"x" * (more if number == blocks else BLOCK))
    return path


def test_what_holds_data_is_mapped(tmp_path: Path) -> None:
    found = scan(image(tmp_path / "i", 100, 0, 40, 41))
    assert [(one.first, one.last) for one in found.ranges] == [(0, 0), (40, 41)]
    assert found.ranges[0].sha256 == ONE
    assert found.ranges[1].sha256 == hashlib.sha256(b"x" * 2 * BLOCK).hexdigest()
    assert found.mapped_bytes == 3 * BLOCK
    assert list(found.holes()) == [
        Extent(BLOCK, 39 * BLOCK),
        Extent(42 * BLOCK, 58 * BLOCK),
    ]


def test_the_map_follows_from_the_bytes_alone(tmp_path: Path) -> None:
    """A copy without holes has the same map: two builds on two file systems agree."""
    sparse = image(tmp_path / "i", 3000, 5, 299, 2000)
    full = tmp_path / "full"
    full.write_bytes(sparse.read_bytes())
    assert map_text(scan(full)) == map_text(scan(sparse))


def test_small_holes_are_written(tmp_path: Path) -> None:
    found = scan(image(tmp_path / "i", 100, 3, 19, 36))
    assert [(one.first, one.last) for one in found.ranges] == [(3, 19), (36, 36)]
    assert wrong_range(tmp_path / "i", found) is None


@pytest.mark.parametrize("used", [(), (0,), (255, 256), (299, 300)])
def test_images_that_end_within_a_block(tmp_path: Path, used: tuple[int, ...]) -> None:
    path = image(tmp_path / "i", 300, *used, more=512)
    found = scan(path)
    assert parse_map(map_text(found)) == found
    assert wrong_range(path, found) is None
    covered = [*found.mapped(), *found.holes()]
    assert sum(one.bytes for one in covered) == path.stat().st_size


def test_a_changed_byte_is_found(tmp_path: Path) -> None:
    path = image(tmp_path / "i", 100, 0, 40, 41)
    found = scan(path)
    with path.open("r+b") as stream:
        stream.seek(41 * BLOCK + 17)
        stream.write(b"y")
    assert wrong_range(path, found) == found.ranges[1]


def test_an_image_cut_short_is_found(tmp_path: Path) -> None:
    path = image(tmp_path / "i", 100, 99)
    found = scan(path)
    path.write_bytes(path.read_bytes()[: 99 * BLOCK + 1])
    assert wrong_range(path, found) == found.ranges[0]


def signed_again(text: str) -> str:
    """Return a changed map with a checksum that fits."""
    own = text.partition("<BmapFileChecksum> ")[2][:64]
    empty = text.replace(own, "0" * 64)
    return empty.replace("0" * 64, hashlib.sha256(empty.encode()).hexdigest(), 1)


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("</BlockMap>", "</Block>", "no XML"),
        ('version="2.0"', 'version="3.0"', "of version 3.0"),
        (" sha256 ", " sha1 ", "not SHA-256"),
        ("> 40-41 <", "> 41-40 <", "out of order"),
        ("> 40-41 <", "> 0 <", "out of order"),
        ("> 40-41 <", "> 40-x <", "not understood"),
        ("> 40-41 <", "> 100-101 <", "behind the end"),
        (f'chksum="{ONE}"', 'chksum="abc"', "not understood"),
        ("> 409600 <", "> many <", "ImageSize is 'many'"),
        ("> 409600 <", "> 409601 <", "no whole sectors"),
        ('<?xml version="1.0" ?>', '<!DOCTYPE a [<!ENTITY b "c">]>', "DOCTYPE"),
    ],
)
def test_what_is_not_believed(tmp_path: Path, old: str, new: str, told: str) -> None:
    text = map_text(scan(image(tmp_path / "i", 100, 0, 40, 41)))
    assert text.count(old) == 1
    with pytest.raises(ValueError, match=told):
        parse_map(signed_again(text.replace(old, new)))


def test_a_map_that_was_changed_says_so_itself(tmp_path: Path) -> None:
    path = tmp_path / "map"
    text = map_text(BlockMap(100 * BLOCK, (Range(0, 0, ONE),)))
    path.write_text(text)
    assert read_map(path).ranges == (Range(0, 0, ONE),)
    path.write_text(text.replace("> 0 <", "> 1 <"))
    with pytest.raises(UserError, match="not what its own checksum says") as caught:
        read_map(path)
    assert caught.value.hint
