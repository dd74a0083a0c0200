"""Brings back from a version's folder what it was made of: a part, or the image."""

from __future__ import annotations

from pathlib import Path

from builder.core.errors import UserError
from builder.core.files import copy_sparse
from builder.core.hashing import sha256_file
from builder.core.process import Runner
from builder.model.release import PartName, Release
from builder.release import zstd
from builder.release.layout import DISK, PARTS
from builder.release.repository import LAYERS, MANIFEST, Repository, read_manifest, read_release


def unpack_part(
    runner: Runner, folder: Path, release: Release, name: PartName, target: Path
) -> None:
    """Write a part as a node installs it. Raises UserError unless it is what `release` says."""
    part = release.part(name)
    source = folder / part.full.name
    if source.suffix == ".zst":
        zstd.unpack(runner, source, target)
    else:
        copy_sparse(runner, source, target)
    if target.stat().st_size != part.bytes or sha256_file(target) != part.sha256:
        hint = "imgbuild verify says all that is wrong with a repository"
        raise UserError(f"{source}: does not hold {name} as {release.version} names it", hint=hint)


def unpack_version(runner: Runner, repository: Repository, folder: Path, target: Path) -> None:
    """Make of a version's folder the folder of an image, as `imgbuild build` made it.

    Without the initrd, which lies in the UKI; layers are links into the repository. Raises
    UserError for what is not as release.json says.
    """
    release, manifest = read_release(folder), read_manifest(folder)
    target.mkdir()
    for name in PARTS:
        unpack_part(runner, folder, release, name, target / name)
    for one in (*release.documents, *((release.disk.bmap,) if release.disk else ())):
        if one:
            copy_sparse(runner, folder / one.name, target / one.name)
    copy_sparse(runner, folder / MANIFEST, target / MANIFEST)
    if release.disk:
        zstd.unpack(runner, folder / DISK, target / manifest.disk.name)
    (target / LAYERS).mkdir()
    for layer in manifest.payload.files:
        (target / LAYERS / layer.name).symlink_to(repository.layers / layer.name)
