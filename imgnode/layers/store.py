"""The layer store on /var: one file per layer, named by the dm-verity root hash of its content.

A file stands under its name only when it is whole: what is on its way lies in `.part/`, what
was found damaged in `bad/`. Both slots share the files; versions.py says whose they are.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from imgnode.files import flush_folder
from imgnode.payload import LayerFile

FOLDER = Path("var/lib/imgnode/layers")
_LOCK = Path("run/imgnode/layers.lock")
_NAME = re.compile(r"[0-9a-f]{64}\.erofs")


@dataclass(frozen=True)
class Store:
    """The layer store below a root."""

    root: Path

    @property
    def folder(self) -> Path:
        """The folder that holds the files."""
        return self.root / FOLDER

    def path(self, file: LayerFile) -> Path:
        """Return where a file stands when it is whole."""
        return self.folder / file.name

    def part(self, file: LayerFile) -> Path:
        """Return where a file grows while it is fetched."""
        return self.folder / ".part" / file.name

    def bad(self, file: LayerFile) -> Path:
        """Return where a damaged file is kept until a good one has taken its place."""
        return self.folder / "bad" / file.name

    def names(self) -> list[str]:
        """Return the names of all files under their own name, of every version."""
        return sorted(path.name for path in _entries(self.folder) if _NAME.fullmatch(path.name))

    def parts(self) -> list[str]:
        """Return the names of the files that were being fetched."""
        return sorted(path.name for path in _entries(self.folder / ".part"))

    def bytes(self) -> int:
        """Return how many bytes the files have, of every version."""
        return sum((self.folder / name).lstat().st_size for name in self.names())

    def adopt(self, file: LayerFile) -> None:
        """Give a fetched file its name, in one step and for good. Raises OSError."""
        handle = os.open(self.part(file), os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
        self.part(file).replace(self.path(file))
        flush_folder(self.folder)

    def set_aside(self, file: LayerFile) -> None:
        """Take a damaged file out of the way; what was mounted of it stays. Raises OSError."""
        self.bad(file).parent.mkdir(exist_ok=True)
        self.path(file).replace(self.bad(file))
        flush_folder(self.folder)

    def forget_bad(self) -> None:
        """Remove all damaged files. Raises OSError."""
        for path in _entries(self.folder / "bad"):
            path.unlink()


def size_of(path: Path) -> int | None:
    """Return the bytes of a regular file; None where there is none, or something else."""
    try:
        facts = path.lstat()
    except FileNotFoundError:
        return None
    return facts.st_size if stat.S_ISREG(facts.st_mode) else None


def intact(path: Path, file: LayerFile) -> bool:
    """Tell whether every byte of `path` is as the list says; False when it cannot be read.

    The disk is asked, not the page cache (posix_fadvise(2)). Takes seconds for each GB.
    """
    if size_of(path) != file.bytes:
        return False
    try:
        with path.open("rb") as stream:
            os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            return hashlib.file_digest(stream, "sha256").hexdigest() == file.sha256
    except OSError:
        return False


@contextmanager
def locked(root: Path) -> Iterator[None]:
    """Keep other runs away from the store; waits for as long as one goes on. Raises OSError."""
    path = root / _LOCK
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield


def _entries(folder: Path) -> list[Path]:
    return list(folder.iterdir()) if folder.is_dir() else []
