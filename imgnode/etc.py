"""Saves the declared part of /etc to /var; the initrd brings it back at the next boot.

The machine id alone goes the other way: the initrd makes it, and one that a backup brought back
waits on /var for the next boot.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

_LIST = Path("usr/lib/imgnode/etc-persist.conf")
_STATE = Path("var/lib/imgnode/etc")
_FROM_VAR = Path("machine-id")


def save(root: Path = Path("/")) -> list[str]:
    """Copy every declared file of /etc that changed to /var; return their names.

    Each copy appears in one step, flushed, so a power cut leaves the old or the new one.
    """
    saved = []
    for pattern in patterns(root):
        for source in sorted((root / "etc").glob(pattern)):
            name = source.relative_to(root / "etc")
            target = root / _STATE / name
            if name == _FROM_VAR and target.exists():
                continue
            if source.is_file() and not _same(source, target):
                _copy(source, target)
                saved.append(str(name))
    return saved


def bring_back(saved: Path, root: Path = Path("/")) -> list[str]:
    """Copy what is declared from a saved folder to /etc, the machine id aside; return the names.

    Raises OSError.
    """
    brought = []
    for pattern in patterns(root):
        for source in sorted(saved.glob(pattern)):
            name = source.relative_to(saved)
            target = root / "etc" / name
            if name != _FROM_VAR and source.is_file() and not _same(source, target):
                _copy(source, target)
                brought.append(str(name))
    return brought


def patterns(root: Path = Path("/")) -> list[str]:
    """Return the declared patterns, relative to /etc."""
    lines = (root / _LIST).read_text().splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def _same(source: Path, target: Path) -> bool:
    return target.is_file() and target.read_bytes() == source.read_bytes()


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True, mode=0o755)
    temporary = target.with_name(f".{target.name}.new")
    temporary.unlink(missing_ok=True)
    temporary.touch(mode=0o600)  # a private key is at no moment readable by others
    shutil.copy2(source, temporary)
    info = source.stat()
    os.chown(temporary, info.st_uid, info.st_gid)
    with temporary.open("rb") as stream:
        os.fsync(stream.fileno())
    temporary.replace(target)
    folder = os.open(target.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
