"""Takes a backup into each target; one that fails does not keep the others from theirs."""

from __future__ import annotations

import fcntl
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from imgnode.backup import report, restic, targets
from imgnode.backup.stage import staged
from imgnode.backup.trouble import BUSY, Trouble
from imgnode.backupconfig import Backup
from imgnode.identity import read_identity

_LOCK = Path("run/imgnode/backup.lock")
_FRESH_S = 6 * 3600  # the timer's run leaves alone what is younger: a retry makes what is missing
Say = Callable[[str], None]


@contextmanager
def alone(root: Path = Path("/")) -> Iterator[None]:
    """Keep other runs away. Raises Trouble while one goes on, OSError."""
    path = root / _LOCK
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Trouble(BUSY, "another run of imgnode backup goes on", "wait for it") from None
        yield


def back_up(say: Say, root: Path = Path("/"), *, due_only: bool = False) -> list[Trouble]:
    """Back up now; return what went wrong, which is noted as well. Raises OSError.

    `due_only` leaves out targets whose last backup is younger than six hours.
    """
    config = targets.settings(root)
    wanted = [one for one in targets.names(config) if not due_only or _due(one, root)]
    if not wanted:
        say("nothing is due: the last backup is younger than six hours")
        return []
    try:
        with staged(root) as stage:
            return [one for target in wanted for one in _target(target, config, stage, say, root)]
    except Trouble as trouble:
        for target in wanted:
            report.failed(target, trouble, root)
        return [trouble]
    finally:
        report.settle(targets.names(config), targets.size(root), root)


def _due(target: str, root: Path) -> bool:
    state = report.read(root)
    age = time.time() - state["success"].get(target, 0)
    return target in state["errors"] or not 0 <= age < _FRESH_S


def _target(target: str, config: Backup, stage: Path, say: Say, root: Path) -> list[Trouble]:
    node, version = targets.name_of_node(config), read_identity(root).version
    try:
        repository = targets.open_target(target, config, root)
        name = restic.back_up(repository, stage, node, version)
        report.made(target, int(time.time()), root)
        say(f"{target}: backup {name} of {node}")
        restic.forget(repository, **targets.keep(config))
    except Trouble as trouble:
        report.failed(target, trouble, root)
        return [trouble]
    return []
