"""Checks a file against what the mirror's list promised."""

from __future__ import annotations

import hashlib
from pathlib import Path

from imgnode.models.listing import RemoteFile

_BLOCK = 1 << 20


def is_right(path: Path, file: RemoteFile) -> bool:
    """Tell whether a file has the promised size and content. Raises OSError."""
    size = path.stat().st_size
    if size != file.size:
        return False
    if file.sha256:
        total = hashlib.sha256()
    else:  # a git blob (git-hash-object(1))
        total = hashlib.sha1(b"blob %d\0" % size, usedforsecurity=False)
    with path.open("rb") as stream:
        while block := stream.read(_BLOCK):
            total.update(block)
    return total.hexdigest() == file.digest
