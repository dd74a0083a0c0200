"""The compile cache of a container image: kept on /var, so that a restart need not compile."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from imgnode.serve.command import UID

_FOLDER = Path("var/lib/imgnode/cache")
_NAME = 12
_KEPT = 2  # this version's and the one that an update or its roll-back needs


def folder(digest: str, root: Path = Path("/")) -> Path:
    """Return where the cache of an image lies, whether it is there or not."""
    return root / _FOLDER / digest[:_NAME]


def prepare(digest: str, root: Path = Path("/")) -> Path:
    """Return the cache folder of an image, made if need be; old ones go. Raises OSError."""
    mine = folder(digest, root)
    mine.mkdir(parents=True, exist_ok=True)
    os.chown(mine, UID, UID)
    mine.chmod(0o700)
    os.utime(mine)
    others = [one for one in mine.parent.iterdir() if one != mine]
    for old in sorted(others, key=lambda one: one.stat().st_mtime, reverse=True)[_KEPT - 1 :]:
        shutil.rmtree(old, ignore_errors=True)
    return mine
