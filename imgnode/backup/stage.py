"""A still copy of the declared sets, with a list of checksums: this is what restic reads.

So a backup holds one moment, and can later be compared with what was copied, end to end.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from imgnode.backup.declared import digests, entries, read_sets
from imgnode.backup.trouble import DAMAGED, SPACE, VOLATILE, Trouble
from imgnode.files import write_atomic

HOME = Path("var/lib/imgnode/backup")
FILES, LIST = "files", "sha256.json"
_STAGE = HOME / "stage"
_MIB = 1 << 20
_MOST = 64 * _MIB  # more is no state: something has gone wrong
_RESERVE = 256 * _MIB  # of /var, which backups leave alone
_PRIVATE = 0o700


@contextmanager
def staged(root: Path = Path("/")) -> Iterator[Path]:
    """Give the folder with the copy, which is gone afterwards.

    Raises Trouble when /var is volatile or has too little room, OSError.
    """
    size = check_room(root)
    stage = empty_folder(root / _STAGE)
    try:
        for one in read_sets(root):
            _copy(root / one.path, stage / FILES / one.name)
        copied = sum(path.lstat().st_size for path in entries(stage))
        if copied > 2 * size + _MIB:
            raise Trouble(SPACE, "the state grew while it was copied", "try again")
        write_atomic(stage / LIST, json.dumps(digests(stage / FILES), indent=1), 0o600)
        yield stage
    finally:
        shutil.rmtree(stage, ignore_errors=True)


def check_room(root: Path = Path("/")) -> int:
    """Return the bytes of all sets. Raises Trouble when there is no room to work with them."""
    if (root / "run/imgnode/var-degraded").exists():
        raise Trouble(VOLATILE, "/var is VOLATILE", "mend the disk: imgnode gate show")
    paths = [root / one.path for one in read_sets(root) if (root / one.path).exists()]
    size = sum(path.lstat().st_size for top in paths for path in entries(top))
    if size > _MOST:
        fact = f"the declared state has {size // _MIB} MiB, more than {_MOST // _MIB}"
        raise Trouble(SPACE, fact, "du -s /var/lib/imgnode/*")
    seen = os.statvfs(root / "var")
    free = seen.f_bavail * seen.f_frsize
    if free < _RESERVE + 3 * size:
        fact = f"/var has {free // _MIB} MiB left, too little for a backup"
        raise Trouble(SPACE, fact, "imgnode model list, imgnode layers gc")
    return size


def compare(stage: Path) -> dict[str, str]:
    """Return the digests of an unpacked backup. Raises Trouble when they are not its list's."""
    try:
        listed = json.loads((stage / LIST).read_text())
    except (OSError, ValueError) as error:
        raise Trouble(DAMAGED, f"the backup's list cannot be read: {error}") from error
    found = digests(stage / FILES)
    if found != listed:
        differ = sorted(name for name in {*found, *listed} if found.get(name) != listed.get(name))
        raise Trouble(DAMAGED, f"{len(differ)} files differ from the list, as {differ[0]}")
    return found


def empty_folder(folder: Path) -> Path:
    """Make a folder for root alone, or empty it. Raises OSError."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(mode=_PRIVATE, parents=True)
    return folder


def home(root: Path = Path("/")) -> Path:
    """Return the folder of all backups; `imgnode status` reads in it, so others may enter."""
    folder = root / HOME
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o755)
    return folder


def _copy(source: Path, target: Path) -> None:
    """Copy a set with modes, times and owners; one that is not there is not in the backup."""
    if not source.exists():
        return
    for path in entries(source):
        place = target / path.relative_to(source) if path != source else target
        place.parent.mkdir(mode=_PRIVATE, parents=True, exist_ok=True)
        shutil.copy2(path, place, follow_symlinks=False)
        info = path.lstat()
        os.chown(place, info.st_uid, info.st_gid, follow_symlinks=False)
    folders = [source, *source.rglob("*")] if source.is_dir() else []
    for path in folders:
        if path.is_dir() and not path.is_symlink():
            place = target / path.relative_to(source)
            place.mkdir(mode=_PRIVATE, parents=True, exist_ok=True)
            shutil.copystat(path, place)
