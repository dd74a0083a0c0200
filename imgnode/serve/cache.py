"""The compile cache of a container image: kept on /var, so that a restart need not compile."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from imgnode.layers.mounts import place
from imgnode.payload import ContainerImage
from imgnode.serve.command import UID

_FOLDER = Path("var/lib/imgnode/cache")
_BROUGHT = Path("usr/local/share/imgnode/cache")  # in a layer of the image
_NAME = 12
_KEPT = 2  # this version's and the one that an update or its roll-back needs


def folder(digest: str, root: Path = Path("/")) -> Path:
    """Return where the cache of an image lies, whether it is there or not."""
    return root / _FOLDER / digest[:_NAME]


def prepare(image: ContainerImage, root: Path = Path("/")) -> Path:
    """Return the cache folder of an image, made if need be; old ones go. Raises OSError.

    A new one starts with what the image brings along for it (builder/containers/warm.py).
    """
    mine = folder(image.digest, root)
    if not mine.is_dir():
        _fill(image, mine, root)
    os.chown(mine, UID, UID)
    mine.chmod(0o700)
    os.utime(mine)
    others = [one for one in mine.parent.iterdir() if one != mine]
    for old in sorted(others, key=lambda one: one.stat().st_mtime, reverse=True)[_KEPT - 1 :]:
        shutil.rmtree(old, ignore_errors=True)
    return mine


def _fill(image: ContainerImage, mine: Path, root: Path) -> None:
    """Make the folder, complete or not at all."""
    new = mine.with_name(f".{mine.name}.new")
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir(parents=True)
    for layer in image.layers:
        brought = place(layer.root_hash, root) / _BROUGHT
        if brought.is_dir():
            shutil.copytree(brought, new, dirs_exist_ok=True)
    for path in new.rglob("*"):
        os.chown(path, UID, UID)
    new.rename(mine)
