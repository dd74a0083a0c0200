"""A small image, made without a build: real hash tree, real digests, layers."""

from __future__ import annotations

import hashlib
import random
import uuid
from pathlib import Path

from builder.model.artifacts import Artifact, DiskImage, Manifest, Partition
from builder.model.container import LayerFile, Payload
from imgnode.release.verity import BLOCK, write_tree

IMAGE_ID = "imgbuild-tiny"
_BLOCKS = 256


def make_image(folder: Path, version: str, *, layers: tuple[int, ...] = (1,)) -> Path:
    """Write an image of a megabyte; versions differ in some blocks, layers by their number."""
    folder.mkdir(parents=True)
    shared = random.Random("tiny").randbytes(BLOCK * _BLOCKS)  # noqa: S311 - test data
    own = random.Random(version).randbytes(3 * BLOCK)  # noqa: S311
    (folder / "root.erofs").write_bytes(shared[: 20 * BLOCK] + own + shared[20 * BLOCK :])
    salt = hashlib.sha256(version.encode()).digest()
    id_ = uuid.uuid5(uuid.NAMESPACE_OID, version)
    root_hash = write_tree(folder / "root.erofs", folder / "root.verity", salt=salt, uuid=id_)
    words = f"roothash={root_hash} ro\n".encode()
    (folder / "uki.efi").write_bytes(shared[: 30 * BLOCK] + words + shared[: 30 * BLOCK])
    root = (folder / "root.erofs").read_bytes()
    (folder / "disk.raw").write_bytes(b"\0" * BLOCK + root + b"\0" * 64 * BLOCK)
    files = tuple(_layer(folder, number) for number in layers)
    (folder / "manifest.json").write_text(_manifest(folder, version, root_hash, files))
    return folder


def _layer(folder: Path, number: int) -> LayerFile:
    data = random.Random(number).randbytes(50_000)  # noqa: S311
    digest = hashlib.sha256(data).hexdigest()
    (folder / "layers").mkdir(exist_ok=True)
    (folder / "layers" / f"{digest}.erofs").write_bytes(data)
    return LayerFile(root_hash=digest, bytes=len(data), data_bytes=len(data) - 1, sha256=digest)


def _manifest(folder: Path, version: str, root_hash: str, layers: tuple[LayerFile, ...]) -> str:
    names = ("root.erofs", "root.verity", "uki.efi")
    made = Manifest(
        image_id=IMAGE_ID,
        version=version,
        profile="tiny",
        site="debian",
        epoch=0,
        root_hash=root_hash,
        kernel_release="6.1",
        root_bytes=(folder / "root.erofs").stat().st_size,
        root_slot_bytes=1 << 30,
        inputs={},
        payload=Payload(container=None, models=(), files=layers),
        disk=_disk(folder),
        artifacts=tuple(_artifact(folder / name) for name in names),
        packages=(),
    )
    return made.model_dump_json(indent=1) + "\n"


def _disk(folder: Path) -> DiskImage:
    size = (folder / "root.erofs").stat().st_size
    slot = Partition(
        label="a", type="root-x86-64", uuid="", offset=BLOCK, bytes=size, source="root.erofs"
    )
    whole = (folder / "disk.raw").stat().st_size
    return DiskImage(name="disk.raw", bytes=whole, partitions=(slot,))


def _artifact(path: Path) -> Artifact:
    data = path.read_bytes()
    return Artifact(name=path.name, bytes=len(data), sha256=hashlib.sha256(data).hexdigest())
