"""The file sets that are backed up, as the image's `backup.conf` declares them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

_LIST = Path("usr/lib/imgnode/backup.conf")
CONFIG, IDENTITY, HISTORY = "config", "identity", "history"


@dataclass(frozen=True)
class FileSet:
    """A file or folder that is brought back as a whole; `path` is below the root."""

    kind: str
    name: str
    path: Path


def there(root: Path = Path("/")) -> bool:
    """Tell whether this image makes backups."""
    return (root / _LIST).is_file()


def read_sets(root: Path = Path("/")) -> list[FileSet]:
    """Return the sets in the order of the list. Raises OSError, or ValueError for a bad line."""
    sets = []
    for line in (root / _LIST).read_text().splitlines():
        if line and not line.startswith("#"):
            kind, name, path = line.split()
            if kind not in {CONFIG, IDENTITY, HISTORY}:
                raise ValueError(f"{_LIST}: {kind}: no such kind of file set")
            sets.append(FileSet(kind, name, Path(path).relative_to("/")))
    return sets


def digests(top: Path) -> dict[str, str]:
    """Return by path below `top` the SHA-256 of each file, and `-> target` of each link.

    `top` itself is "." where it is a file. Sockets and half-written files (imgnode/files.py) are
    left out. Raises OSError.
    """
    return {str(path.relative_to(top)): _digest(path) for path in entries(top)}


def entries(top: Path) -> Iterator[Path]:
    """Yield what counts of a set: its files and links, sorted."""
    paths = sorted(top.rglob("*")) if top.is_dir() and not top.is_symlink() else [top]
    for path in paths:
        half_written = path.name.startswith(".") and path.name.endswith(".new")
        if not half_written and (path.is_symlink() or path.is_file()):
            yield path


def part(whole: Mapping[str, str], name: str) -> dict[str, str]:
    """Return what the digests of all sets say of the set `name`, as `digests` of it would."""
    below = {
        path.removeprefix(f"{name}/"): one
        for path, one in whole.items()
        if path.startswith(f"{name}/")
    }
    return {".": whole[name]} if name in whole else below


def _digest(path: Path) -> str:
    if path.is_symlink():
        return f"-> {path.readlink()}"
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
