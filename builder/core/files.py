"""Small operations on files that the standard library does not have."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from builder.core.process import Runner


def write_atomic(path: Path, text: str, mode: int = 0o644) -> None:
    """Write `text` so that readers see the old or the new file, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    temporary = Path(name)
    try:
        with os.fdopen(handle, "w") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.chmod(mode)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def remove_tree(path: Path) -> None:
    """Remove a folder and all in it; one that is not there is fine."""
    shutil.rmtree(path, ignore_errors=True)


@contextmanager
def scratch(folder: Path, mode: int = 0o755) -> Iterator[Path]:
    """Give an empty folder, without what a killed run has left there; it is gone afterwards."""
    remove_tree(folder)
    try:  # before it is made: an interrupt may come as soon as it is there
        folder.mkdir(mode, parents=True)
        yield folder
    finally:
        remove_tree(folder)


def tree_bytes(root: Path) -> int:
    """Return the space that a folder's files take on disk, in bytes."""
    total = 0
    for folder, _, files in os.walk(root):
        for name in files:
            total += os.lstat(os.path.join(folder, name)).st_blocks * 512  # noqa: PTH118 - hot
    return total


def clamp_times(root: Path, epoch: int) -> None:
    """Set every time stamp below `root` (itself included) that is later than `epoch` to it."""
    for folder, folders, files in os.walk(root, topdown=False):
        for name in (*files, *folders):
            _clamp(os.path.join(folder, name), epoch)  # noqa: PTH118 - hot
    _clamp(str(root), epoch)


def _clamp(path: str, epoch: int) -> None:
    if os.lstat(path).st_mtime > epoch:
        os.utime(path, (epoch, epoch), follow_symlinks=False)


def copy_own(source: Path, target: Path) -> None:
    """Copy a folder of the project into a tree, over what is there.

    Modes follow from the executable bit alone and times are now (to be clamped), so that
    every checkout, whenever and under whatever umask it was made, gives the same tree.
    """
    target.mkdir(mode=0o755, parents=True, exist_ok=True)
    for path in sorted(source.iterdir()):
        copy = target / path.name
        if path.is_symlink() or path.is_file():
            copy.unlink(missing_ok=True)  # never write through a link that is there
        if path.is_symlink():
            copy.symlink_to(path.readlink())
        elif path.is_dir():
            if path.name != "__pycache__":
                copy_own(path, copy)
        else:
            shutil.copyfile(path, copy)
            copy.chmod(0o755 if path.stat().st_mode & 0o100 else 0o644)


def copy_sparse(runner: Runner, source: Path, target: Path) -> None:
    """Copy a file, sharing its blocks where the file system can, and keeping its holes."""
    runner.run(["cp", "--sparse=always", "--reflink=auto", "--", source, target])


def link_or_copy(runner: Runner, source: Path, target: Path) -> None:
    """Give a read-only file a second name, or copy it where that is another file system."""
    try:
        target.hardlink_to(source)
    except OSError:
        copy_sparse(runner, source, target)
