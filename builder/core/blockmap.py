"""Block maps in bmap-tools' format 2.0: which blocks of a disk image hold data, and their digests.

`bmaptool copy` takes the same files (bmap-tools, BmapCreate.py and BmapCopy.py). All that is not
mapped reads as zeros.
"""

from __future__ import annotations

import hashlib
import re
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from builder.core.errors import UserError

BLOCK = 4096
ENDING = ".bmap"
_MOST = 64 << 20  # bytes that a map may have
_NO_SUM = "0" * 64  # stands for the file's own digest while it is worked out
_RANGE = re.compile(r"([0-9]+)(?:-([0-9]+))?")
_DIGEST = re.compile(r"[0-9a-f]{64}")
_HEAD = """\
<?xml version="1.0" ?>
<!-- The blocks of a disk image that hold data; all others are zeros (bmap-tools, bmaptool(1)). -->
<bmap version="2.0">
    <ImageSize> {bytes} </ImageSize>
    <BlockSize> {block} </BlockSize>
    <BlocksCount> {blocks} </BlocksCount>
    <MappedBlocksCount> {mapped} </MappedBlocksCount>
    <ChecksumType> sha256 </ChecksumType>
    <BmapFileChecksum> {sum} </BmapFileChecksum>
    <BlockMap>
"""
_TAIL = "    </BlockMap>\n</bmap>\n"


@dataclass(frozen=True)
class Range:
    """Blocks `first` to `last`, both included, and the SHA-256 of their bytes."""

    first: int
    last: int
    sha256: str


@dataclass(frozen=True)
class Extent:
    """A stretch of bytes; `sha256` is None for a hole."""

    offset: int
    bytes: int
    sha256: str | None = None


@dataclass(frozen=True)
class BlockMap:
    """The map of an image of `image_bytes`; ranges ascend and do not touch."""

    image_bytes: int
    ranges: tuple[Range, ...]
    block: int = BLOCK

    def mapped(self) -> Iterator[Extent]:
        """Yield what holds data; the last block ends where the image does."""
        for one in self.ranges:
            start = one.first * self.block
            end = min((one.last + 1) * self.block, self.image_bytes)
            yield Extent(start, end - start, one.sha256)

    def holes(self) -> Iterator[Extent]:
        """Yield what lies between, and after the last range."""
        at = 0
        for one in self.mapped():
            if one.offset > at:
                yield Extent(at, one.offset - at)
            at = one.offset + one.bytes
        if at < self.image_bytes:
            yield Extent(at, self.image_bytes - at)

    @property
    def mapped_bytes(self) -> int:
        """How much there is to write."""
        return sum(one.bytes for one in self.mapped())


def map_text(found: BlockMap) -> str:
    """Return a map as bmap-tools writes it."""
    head = _HEAD.format(
        bytes=found.image_bytes,
        block=found.block,
        blocks=-(-found.image_bytes // found.block),
        mapped=sum(one.last - one.first + 1 for one in found.ranges),
        sum=_NO_SUM,
    )
    rows = (
        f'        <Range chksum="{one.sha256}"> {_span(one)} </Range>\n' for one in found.ranges
    )
    text = head + "".join(rows) + _TAIL
    return text.replace(_NO_SUM, hashlib.sha256(text.encode()).hexdigest(), 1)


def read_map(path: Path) -> BlockMap:
    """Return the map in a file. Raises UserError when it is damaged, or of another kind."""
    try:
        with path.open(encoding="ascii") as stream:
            return parse_map(stream.read(_MOST))
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from None
    except ValueError as error:
        hint = "it is damaged: build or release the image again"
        raise UserError(f"{path}: no block map: {error}", hint=hint) from None


def parse_map(text: str) -> BlockMap:
    """Return the map that a text gives. Raises ValueError for anything unexpected in it."""
    if "<!DOCTYPE" in text:  # no entities: nothing can grow
        raise ValueError("it has a DOCTYPE")
    try:
        root = ET.fromstring(text)  # noqa: S314 - see above
    except ET.ParseError as error:
        raise ValueError(f"it is no XML: {error}") from None
    if root.tag != "bmap" or not root.get("version", "").startswith("2."):
        raise ValueError(f"it is of version {root.get('version')}, not 2")
    if _word(root, "ChecksumType") != "sha256":
        raise ValueError("its checksums are not SHA-256")
    own = _word(root, "BmapFileChecksum")
    if not _DIGEST.fullmatch(own) or _own_sum(text, own) != own:
        raise ValueError("it is not what its own checksum says")
    found = BlockMap(
        image_bytes=_number(root, "ImageSize"),
        ranges=tuple(_range(one) for one in root.iterfind("BlockMap/Range")),
        block=_number(root, "BlockSize"),
    )
    _check(found)
    return found


def _span(one: Range) -> str:
    return str(one.first) if one.first == one.last else f"{one.first}-{one.last}"


def _own_sum(text: str, own: str) -> str:
    return hashlib.sha256(text.replace(own, _NO_SUM, 1).encode()).hexdigest()


def _word(root: ET.Element, name: str) -> str:
    return (root.findtext(name) or "").strip()


def _number(root: ET.Element, name: str) -> int:
    word = _word(root, name)
    if not word.isdecimal():
        raise ValueError(f"{name} is {word!r}")
    return int(word)


def _range(one: ET.Element) -> Range:
    span = _RANGE.fullmatch((one.text or "").strip())
    digest = one.get("chksum", "")
    if span is None or not _DIGEST.fullmatch(digest):
        raise ValueError(f"range {(one.text or '').strip()!r} is not understood")
    return Range(int(span[1]), int(span[2] or span[1]), digest)


def _check(found: BlockMap) -> None:
    if found.block < 1 or found.block % 512 or found.image_bytes % 512:
        raise ValueError("its sizes are no whole sectors")
    before = -1
    for one in found.ranges:
        if one.first <= before or one.last < one.first:
            raise ValueError(f"range {_span(one)} is out of order")
        before = one.last
    if (before * found.block) >= found.image_bytes:
        raise ValueError("a range lies behind the end of the image")
