"""Tries the backups: judges each repository, unpacks the latest, compares every checksum."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from imgnode.backup import report, restic, targets
from imgnode.backup.restic import Repository, Snapshot
from imgnode.backup.stage import HOME, check_room, compare, empty_folder
from imgnode.backup.take import Say
from imgnode.backup.trouble import MISSING, Trouble

_SCRATCH = HOME / "scratch"
_LATEST = "latest"


def verify(say: Say, root: Path = Path("/")) -> list[Trouble]:
    """Try every target; return what is wrong, which is noted as well. Raises OSError."""
    config = targets.settings(root)
    found: list[Trouble] = []
    for target in targets.names(config):
        try:
            check_room(root)
            repository = targets.open_target(target, config, root)
            restic.check(repository, read_all=target == targets.LOCAL)
            with unpacked(repository, find(repository, _LATEST), root) as (snapshot, _, files):
                say(f"{target}: {snapshot.name} of {snapshot.moment} is whole, {files} files")
        except Trouble as trouble:
            found.append(trouble)
    if found:
        report.failed(report.VERIFY, found[0], root)
    else:
        report.verified(root)
    return found


def find(repository: Repository, name: str) -> Snapshot:
    """Return a backup by its name, or the latest. Raises Trouble when there is none."""
    there = restic.snapshots(repository)
    fitting = [one for one in there if name in (one.name, _LATEST)]
    if not fitting:
        what = "has no backup yet" if name == _LATEST else f"has no backup {name}"
        raise Trouble(MISSING, f"{repository.target}: {what}", "imgnode backup list")
    return fitting[-1]


@contextmanager
def unpacked(
    repository: Repository, snapshot: Snapshot, root: Path = Path("/")
) -> Iterator[tuple[Snapshot, Path, int]]:
    """Give a backup, the folder with its files, and how many these are; compared with its list.

    The folder is on /var, and gone afterwards. Raises Trouble, OSError.
    """
    scratch = empty_folder(root / _SCRATCH)
    try:
        top = restic.unpack(repository, snapshot, scratch)
        yield snapshot, top, len(compare(top))
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
