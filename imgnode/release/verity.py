"""The dm-verity hash tree of an image, worked out without veritysetup(8).

The same bytes as `veritysetup format` writes with 4096-byte blocks and SHA-256, so neither an
update has to move the tree nor a check has to believe it (kernel: admin-guide/device-mapper/verity;
the superblock: cryptsetup, docs/on-disk-format).
"""

from __future__ import annotations

import hashlib
import struct
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

BLOCK = 4096
_FAN_OUT = BLOCK // hashlib.sha256().digest_size
_READ = 256 * BLOCK
_SUPERBLOCK = struct.Struct("<8sII16s32sIIQH6x256s168x")
_MAGIC = b"verity\0\0"


@dataclass(frozen=True)
class TreeFacts:
    """What a tree depends on besides its data: salt and UUID, both as in the superblock."""

    salt: bytes
    uuid: uuid.UUID
    data_blocks: int


def read_facts(tree: Path) -> TreeFacts:
    """Return the facts in a tree's superblock. Raises ValueError for another kind of tree."""
    with tree.open("rb") as stream:
        block = stream.read(_SUPERBLOCK.size)
    if len(block) < _SUPERBLOCK.size:
        raise ValueError("is too short for a hash tree")
    magic, version, kind, id_, name, data, hashed, blocks, length, salt = _SUPERBLOCK.unpack(block)
    shape = (magic, version, kind, name.rstrip(b"\0"), data, hashed)
    if shape != (_MAGIC, 1, 1, b"sha256", BLOCK, BLOCK) or length > len(salt):
        raise ValueError("is no dm-verity tree of SHA-256 with 4096-byte blocks")
    return TreeFacts(salt[:length], uuid.UUID(bytes=id_), blocks)


def write_tree(image: Path, tree: Path, *, salt: bytes, uuid: uuid.UUID) -> str:
    """Write the hash tree of `image` to `tree`; return the root hash, in hexadecimal.

    Holds one level of the tree in memory, 1/128 of the image. Raises ValueError when the image
    is not a whole number of blocks.
    """
    size = image.stat().st_size
    if size == 0 or size % BLOCK:
        raise ValueError(f"{size} bytes are no whole number of {BLOCK}-byte blocks")
    with image.open("rb") as stream:
        levels = [_packed(_digests(_blocks(stream), salt))]
    while len(levels[-1]) > BLOCK:
        level = levels[-1]
        blocks = (level[at : at + BLOCK] for at in range(0, len(level), BLOCK))
        levels.append(_packed(_digests(blocks, salt)))
    header = _SUPERBLOCK.pack(
        _MAGIC, 1, 1, uuid.bytes, b"sha256", BLOCK, BLOCK, size // BLOCK, len(salt), salt
    )
    with tree.open("wb") as out:
        out.write(header.ljust(BLOCK, b"\0"))
        out.writelines(reversed(levels))
    return hashlib.sha256(salt + levels[-1]).hexdigest()


def _blocks(stream: BinaryIO) -> Iterator[memoryview]:
    while chunk := stream.read(_READ):
        view = memoryview(chunk)
        yield from (view[at : at + BLOCK] for at in range(0, len(view), BLOCK))


def _digests(blocks: Iterator[memoryview] | Iterator[bytes], salt: bytes) -> Iterator[bytes]:
    salted = hashlib.sha256(salt)
    for block in blocks:
        one = salted.copy()
        one.update(block)
        yield one.digest()


def _packed(digests: Iterator[bytes]) -> bytes:
    """Return one level: blocks full of digests, the last one filled with zeros."""
    level = b"".join(digests)
    return level.ljust(-(-len(level) // BLOCK) * BLOCK, b"\0")
