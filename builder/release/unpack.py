"""Brings back a part from a version's folder, whole or by a patch."""

from __future__ import annotations

from pathlib import Path

from builder.core.errors import UserError
from builder.core.files import copy_sparse
from builder.core.hashing import sha256_file
from builder.core.process import Runner
from builder.model.release import PartName, Release
from builder.release import zstd


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
