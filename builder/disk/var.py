"""The writable partition as it leaves the build: ext4 with the version's layer files.

A node grows it to the rest of its disk on first boot, so nothing is copied then. The same
files give the same bytes: UUID and hash seed follow from the files' names, times are fixed.
"""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from builder.core.context import Context
from builder.core.files import copy_sparse
from builder.core.sandbox import Sandbox
from builder.model.base import MIB

_NAMESPACE = uuid.UUID("7d1f6a0c-3a55-4e0f-9a52-0c3f0e9b1d64")
_STORE = Path("lib/imgnode/layers")
_SPARE = 96 * MIB  # for ext4's own tables and a first boot on a disk that is hardly larger


@dataclass(frozen=True)
class VarImage:
    """The file system image, and its size."""

    path: Path
    bytes: int


def build_var(
    context: Context, tools: Sandbox, files: Iterable[Path], epoch: int, target: Path
) -> VarImage:
    """Write an ext4 image to `target` that holds `files` in the layer store (mke2fs(8))."""
    files = sorted(files)
    names = " ".join(path.name for path in files)
    size = sum(-(-path.stat().st_size // MIB) * MIB for path in files)
    with context.cache.workspace("var") as work:
        tree = work / "tree"
        store = tree / _STORE
        store.mkdir(parents=True)
        for path in files:
            copy_sparse(context.runner, path, store / path.name)
        blocks = (size + size // 50 + _SPARE) // 4096
        command: list[str | Path] = [
            "mke2fs", "-q", "-F", "-t", "ext4", "-b", "4096", "-L", "var", "-m", "1",
            "-U", str(uuid.uuid5(_NAMESPACE, names)),
            "-E", f"hash_seed={uuid.uuid5(_NAMESPACE, 'hash')},lazy_itable_init=0,root_owner=0:0",
            "-d", tree, target, str(blocks),
        ]  # fmt: skip
        env = {"E2FSPROGS_FAKE_TIME": str(epoch)}
        tools.run(command, write=[target.parent], read=[work], env=env)
        _fix_times(tools, work, tree, epoch, target)
        shutil.rmtree(tree)
    return VarImage(target, target.stat().st_size)


def _fix_times(tools: Sandbox, work: Path, tree: Path, epoch: int, image: Path) -> None:
    """Set every time stamp: mke2fs takes them from the copied files (debugfs(8))."""
    places = ["/", "/lost+found", *(f"/{p.relative_to(tree)}" for p in sorted(tree.rglob("*")))]
    commands = work / "times"
    lines = []
    for place in places:
        for field in ("atime", "ctime", "mtime", "crtime"):
            lines.append(f"set_inode_field {place} {field} @{epoch}")
            lines.append(f"set_inode_field {place} {field}_extra 0")
        if place.endswith(".erofs"):
            lines.append(f"set_inode_field {place} mode 0100444")
        else:
            lines.append(f"set_inode_field {place} mode 0040755")
    commands.write_text("\n".join(lines) + "\n")
    tools.run(
        ["debugfs", "-w", "-f", commands, image],
        write=[image.parent],
        read=[work],
        env={"E2FSPROGS_FAKE_TIME": str(epoch)},
    )
