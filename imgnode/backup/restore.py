"""Brings a backup back: each file set in one step, and what it replaces is kept."""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from imgnode import etc
from imgnode.backup import report, targets
from imgnode.backup.declared import CONFIG, HISTORY, FileSet, digests, read_sets
from imgnode.backup.restic import Repository, Snapshot
from imgnode.backup.stage import FILES, HOME, check_room
from imgnode.backup.take import Say
from imgnode.backup.trouble import Trouble, WrongCall
from imgnode.backup.verify import find, unpacked
from imgnode.files import flush_folder
from imgnode.process import run

_REPLACED = HOME / "replaced"
_KEPT = 3
_AT_FDCWD, _RENAME_EXCHANGE = -100, 2  # renameat2(2)
_RESTART_S = 60
ETC, SEED = "etc", "seed"


@dataclass(frozen=True)
class Wish:
    """What to bring back, and from where; `fill_only` names sets that must not be replaced.

    `target` None: from the node's own disk if it is there, else from the remote.
    """

    name: str = "latest"
    target: str | None = None
    config_only: bool = False
    fill_only: frozenset[str] = frozenset()


def restore(wish: Wish, say: Say, root: Path = Path("/")) -> list[str]:
    """Bring file sets back; return the names of those that changed.

    Sets of kind history are brought back only where the node has none of its own. Raises Trouble,
    WrongCall, OSError; sets before a failing one have been brought back then.
    """
    check_room(root)
    sets = [one for one in read_sets(root) if not wish.config_only or one.kind == CONFIG]
    repository, found = _find(wish, root)
    changed = []
    with unpacked(repository, found, root) as (snapshot, top, _):
        say(f"{repository.target}: {snapshot.name} of {snapshot.moment}, {snapshot.node}")
        for one in sets:
            told, new = _bring_back(one, top / FILES / one.name, wish, root)
            say(f"  {one.name:<8} {told}")
            changed += [one.name] if new else []
    _drop_oldest(root / _REPLACED)
    report.restored(root)
    return changed


def unpack_to(wish: Wish, folder: Path, say: Say, root: Path = Path("/")) -> None:
    """Put the files of a backup into a new folder and change nothing else.

    Raises WrongCall for a folder that is not empty, Trouble, OSError.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise WrongCall(f"{folder}: is not an empty folder", "name a folder that is not there yet")
    repository, found = _find(wish, root)
    with unpacked(repository, found, root) as (snapshot, top, files):
        shutil.copytree(top / FILES, folder, symlinks=True, dirs_exist_ok=True)
        folder.chmod(0o700)
        say(f"{repository.target}: {snapshot.name} of {snapshot.moment}: {files} files in {folder}")


def _find(wish: Wish, root: Path) -> tuple[Repository, Snapshot]:
    """Return the backup that is wanted, and where it lies."""
    config = targets.settings(root)
    there = targets.names(config)
    if wish.target and wish.target not in there:
        raise WrongCall(f"{wish.target}: the seed names no remote", f"there is: {there[0]}")
    *first, last = [wish.target] if wish.target else there
    for target in first:
        with contextlib.suppress(Trouble):
            repository = targets.open_target(target, config, root)
            return repository, find(repository, wish.name)
    repository = targets.open_target(last, config, root)
    return repository, find(repository, wish.name)


def _bring_back(one: FileSet, new: Path, wish: Wish, root: Path) -> tuple[str, bool]:
    """Bring one set back; return what came of it, and whether something changed."""
    here = root / one.path
    if not new.exists():
        return "is not in the backup: left as it is", False
    if here.exists():
        if digests(here) == digests(new):
            return "is the same", False
        if one.kind == HISTORY or one.name in wish.fill_only:
            return "is there already: left as it is", False
    # Before the set itself: imgnode-etc-save.service copies the other way.
    note = _live(new, root) if one.name == ETC else ""
    return _replace(new, here, one, root) + note, True


def _replace(new: Path, here: Path, one: FileSet, root: Path) -> str:
    """Let a set take its place in one step; what was there is moved to the replaced ones."""
    here.parent.mkdir(parents=True, exist_ok=True)
    if not here.exists():
        new.rename(here)
        flush_folder(here.parent)
        return "brought back"
    exchange(new, here)
    flush_folder(here.parent)
    stamp = time.strftime("%Y%m%d-%H%M%S", time.gmtime())
    (root / _REPLACED).mkdir(mode=0o700, exist_ok=True)
    old = root / _REPLACED / stamp / one.name
    old.parent.mkdir(exist_ok=True)
    if old.exists():
        shutil.rmtree(old) if old.is_dir() else old.unlink()
    new.rename(old)
    return f"brought back; what was there: {old}"


def exchange(one: Path, other: Path) -> None:
    """Let two paths of one file system change places in one step. Raises OSError."""
    libc = ctypes.CDLL(None, use_errno=True)
    words = (_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE)
    if libc.renameat2(*words):
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), str(other))


def _live(saved: Path, root: Path) -> str:
    """Let the running node have its SSH host keys; the machine id follows at the next boot.

    Returns a note for people, empty where there is nothing to say.
    """
    if not etc.bring_back(saved, root):
        return ""
    done = run(["systemctl", "try-restart", "ssh.service"], timeout_s=_RESTART_S)
    if done.rc:
        return f"; ssh.service could not be restarted: {done.stderr.strip()}"
    return "; ssh.service has its old keys"


def _drop_oldest(folder: Path) -> None:
    old: Iterable[Path] = sorted(folder.iterdir())[:-_KEPT] if folder.is_dir() else ()
    for one in old:
        shutil.rmtree(one, ignore_errors=True)
