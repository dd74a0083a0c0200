"""Every path of a tree: kind, rights, owner, content, and the package that brings it."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from builder.core.hashing import sha256_file
from builder.model.inventory import FileEntry, FileKind

DPKG = "usr/lib/sysimage/dpkg"  # builder/rootfs/clean.py moves it there
_KINDS: dict[int, FileKind] = {
    stat.S_IFREG: "file",
    stat.S_IFLNK: "link",
    stat.S_IFDIR: "folder",
    stat.S_IFIFO: "pipe",
    stat.S_IFSOCK: "socket",
}
_MERGED = ("bin", "lib", "lib32", "lib64", "libx32", "sbin")  # links into usr/
_CAPABILITY = "security.capability"


def read_files(root: Path) -> dict[str, FileEntry]:
    """Return every path below `root`, sorted."""
    owners = owning_packages(root)
    paths = sorted(_walk(root))
    with ThreadPoolExecutor() as pool:  # hashing lets other threads run
        entries = pool.map(lambda name: _entry(root, name, owners.get(name)), paths)
        return dict(zip(paths, entries, strict=True))


def owning_packages(root: Path) -> dict[str, str]:
    """Return for each path of dpkg's lists the package that brings it, folders included.

    A path that several packages have (folders) counts for the first by name.
    """
    found: dict[str, str] = {}
    for listing in sorted((root / DPKG / "info").glob("*.list")):
        package = listing.stem.partition(":")[0]
        for line in listing.read_text(errors="surrogateescape").splitlines():
            found.setdefault(_merged(line.lstrip("/")), package)
    return found


def _merged(path: str) -> str:
    """Return the path in a root whose /bin, /lib and /sbin are links into /usr."""
    return f"usr/{path}" if path.partition("/")[0] in _MERGED else path


def _walk(root: Path) -> Iterator[str]:
    for folder, folders, files in os.walk(root):
        inside = Path(folder).relative_to(root)
        yield from (str(inside / name) for name in (*folders, *files))


def _entry(root: Path, name: str, package: str | None) -> FileEntry:
    path = root / name
    info = path.lstat()
    kind = _KINDS.get(stat.S_IFMT(info.st_mode), "device")
    content = None
    if kind == "file":
        content = sha256_file(path)
    elif kind == "link":
        content = str(path.readlink())
    return FileEntry(
        kind=kind,
        mode=stat.S_IMODE(info.st_mode),
        uid=info.st_uid,
        gid=info.st_gid,
        bytes=info.st_size if kind == "file" else 0,
        content=content,
        package=package,
        capabilities=_capabilities(path) if kind == "file" else None,
    )


def _capabilities(path: Path) -> str | None:
    try:
        return os.getxattr(path, _CAPABILITY, follow_symlinks=False).hex()
    except OSError:
        return None
