"""Whether the signed files of a version say the truth about each other.

A signature says who released it, not that it was done right: parts are unpacked, patches applied,
the hash tree is worked out again, layers are read in full.
"""

from __future__ import annotations

import mmap
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path

from builder.core.blockmap import read_map
from builder.core.blockscan import scan
from builder.core.errors import UserError
from builder.core.hashing import sha256_file
from builder.core.process import Runner
from builder.model.artifacts import Manifest
from builder.model.release import PartName, Patch, Release
from builder.release import zstd
from builder.release.documents import fault
from builder.release.layout import PARTS, ROOT, TREE, UKI, disagreements
from builder.release.repository import (
    RELEASE,
    Repository,
    read_manifest,
    read_release,
)
from builder.release.unpack import unpack_part
from imgnode.release.verity import write_tree

_CHUNK = 1 << 20
Tell = Callable[[Path, str], None]


def check_content(
    runner: Runner,
    repository: Repository,
    folder: Path,
    listed: Mapping[str, str],
    work: Path,
    tell: Tell,
) -> set[str]:
    """Check a version whose files are as signed; return the names of its layer files."""
    try:
        manifest, release = read_manifest(folder), read_release(folder)
    except UserError as error:
        tell(folder, error.what)
        return set()
    facts = list(disagreements(manifest, release, listed, folder.parent.name, folder.name))
    for name, what in facts:
        tell(folder / name, what)
    if not facts:
        _parts(runner, folder, release, work, tell)
        _disk(runner, folder, manifest, release, work, tell)
        for part in release.parts:
            for patch in part.patches:
                _patch(runner, repository, release, part.name, patch, work, tell)
        for document in release.documents:
            if wrong := fault(folder / document.name, manifest):
                tell(folder / document.name, wrong)
    _layers(repository, manifest, tell)
    return {file.name for file in manifest.payload.files}


def _parts(runner: Runner, folder: Path, release: Release, work: Path, tell: Tell) -> None:
    """Unpack each part, and see that the root hash is that of the root."""
    for name in PARTS:
        try:
            unpack_part(runner, folder, release, name, work / name)
        except UserError as error:
            tell(folder / release.part(name).full.name, error.what.splitlines()[0])
            return
    salt, id_ = bytes.fromhex(release.verity.salt), uuid.UUID(release.verity.uuid)
    made = work / "tree"
    try:
        root_hash = write_tree(work / ROOT, made, salt=salt, uuid=id_)
    except ValueError as error:
        tell(folder / release.part(ROOT).full.name, str(error))
        return
    if root_hash != release.root_hash:
        tell(folder / RELEASE, f"root_hash is not that of {ROOT}, which is {root_hash}")
    if sha256_file(made) != release.part(TREE).sha256:
        tell(folder / release.part(TREE).full.name, f"is not the hash tree of {ROOT}")
    if not _mentions(work / UKI, f"roothash={release.root_hash} ".encode()):
        tell(folder / release.part(UKI).full.name, "does not boot this root: another roothash=")


def _disk(
    runner: Runner, folder: Path, manifest: Manifest, release: Release, work: Path, tell: Tell
) -> None:
    """Unpack the disk image, and see that its slot holds the parts."""
    if release.disk is None:
        return
    path, disk = folder / release.disk.name, work / "disk"
    try:
        zstd.unpack(runner, path, disk)
    except UserError as error:
        tell(path, error.what.splitlines()[0])
        return
    if not disk.stat().st_size == release.disk.unpacked_bytes == manifest.disk.bytes:
        tell(path, "is not as large as its manifest says")
    for partition in manifest.disk.partitions:
        part = work / (partition.source or "")
        if (
            partition.source in PARTS
            and part.is_file()
            and not _holds(disk, partition.offset, part)
        ):
            tell(path, f"its partition {partition.label} is not {partition.source}")
    if release.disk.bmap:
        _map(folder / release.disk.bmap.name, disk, tell)
    disk.unlink()


def _map(path: Path, disk: Path, tell: Tell) -> None:
    """See that the block map is that of the unpacked image."""
    try:
        found = read_map(path)
    except UserError as error:
        tell(path, error.what)
        return
    if found.ranges != scan(disk).ranges or found.image_bytes != disk.stat().st_size:
        tell(path, "is not the block map of the disk image")


def _holds(disk: Path, offset: int, part: Path) -> bool:
    with disk.open("rb") as left, part.open("rb") as right:
        left.seek(offset)
        while chunk := right.read(_CHUNK):
            if left.read(len(chunk)) != chunk:
                return False
    return True


def _mentions(path: Path, words: bytes) -> bool:
    with path.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as view:
        return view.find(words) >= 0


def _patch(
    runner: Runner,
    repository: Repository,
    release: Release,
    name: PartName,
    patch: Patch,
    work: Path,
    tell: Tell,
) -> None:
    """Apply a patch, where the old version is in the repository: others cannot be tried."""
    folder = repository.version(release.image_id, release.version)
    source = repository.version(release.image_id, patch.from_version)
    if not source.is_dir():
        return
    old, new = work / "old", work / "new"
    try:
        before = read_release(source)
        if before.part(name).sha256 != patch.from_sha256:
            tell(folder / patch.name, f"is for another {name} than that of {patch.from_version}")
            return
        unpack_part(runner, source, before, name, old)
        zstd.apply_patch(runner, old, folder / patch.name, patch.pieces, new, work)
    except UserError as error:
        tell(folder / patch.name, error.what.splitlines()[0])
        return
    if sha256_file(new) != release.part(name).sha256:
        tell(folder / patch.name, f"does not make {name} of {release.version}")


def _layers(repository: Repository, manifest: Manifest, tell: Tell) -> None:
    for file in manifest.payload.files:
        path = repository.layers / file.name
        if path.is_symlink() or not path.is_file():
            tell(path, f"is missing; {manifest.version} needs it")
        elif path.stat().st_size != file.bytes or sha256_file(path) != file.sha256:
            tell(path, "is damaged")
