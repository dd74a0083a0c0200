"""Digests of files, trees and values; all are lower-case hexadecimal SHA-256."""

from __future__ import annotations

import hashlib
import json
import os
import stat
from pathlib import Path
from typing import Any

from builder.core.errors import UserError

_CHUNK = 1 << 20


def sha256_file(path: Path) -> str:
    """Return the digest of a file's bytes."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def checked(path: Path, sha256: str, name: str) -> Path:
    """Return a file of the cache that has its locked digest; people know it by `name`.

    One that has not is removed, and UserError raised: the next build fetches it anew.
    """
    actual = sha256_file(path)
    if actual != sha256:
        path.unlink()
        raise UserError(
            f"{name}: SHA-256 is {actual}, the lock says {sha256}",
            hint="the cached file was damaged and is removed: build again",
        )
    return path


def sha256_value(value: Any) -> str:  # noqa: ANN401 - any JSON value
    """Return the digest of a JSON value in canonical form (sorted keys, no spaces)."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def sha256_tree(root: Path) -> str:
    """Return the digest of a folder: names, types, executable bits, contents, link targets.

    Owners and times do not count, so a fresh clone has the same digest.
    """
    digest = hashlib.sha256()
    for path in sorted(_walk(root)):
        info = path.lstat()
        kind = _kind(info.st_mode)
        body = _body(path, kind)
        digest.update(f"{path.relative_to(root)}\0{kind}\0{body}\0".encode())
    return digest.hexdigest()


def _walk(root: Path) -> list[Path]:
    found: list[Path] = []
    for folder, folders, files in os.walk(root):
        folders[:] = [name for name in folders if name != "__pycache__"]
        found += [Path(folder, name) for name in (*folders, *files)]
    return found


def _kind(mode: int) -> str:
    if stat.S_ISLNK(mode):
        return "link"
    if stat.S_ISDIR(mode):
        return "folder"
    return "program" if mode & stat.S_IXUSR else "file"


def _body(path: Path, kind: str) -> str:
    if kind == "link":
        return str(path.readlink())
    return "" if kind == "folder" else sha256_file(path)
