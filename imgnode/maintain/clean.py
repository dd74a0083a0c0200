"""What `imgnode-cleanup.timer` does: takes away what nobody needs, and tells what it took.

Never touched: what an installed version needs, models that the config in force, the wanted or the
proven one name, models that were put there by hand, volumes of Docker.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from imgnode import process
from imgnode.layers import versions
from imgnode.layers.store import Store, locked
from imgnode.maintain import images, logs, models
from imgnode.serve.facts import read_json

_FACTS = Path("usr/lib/imgnode/image.json")
_VACUUM = "64M"  # what the journal keeps where the disk is nearly full
_COMMAND_S = 300
Say = Callable[[str], None]


@dataclass(frozen=True)
class Settings:
    """The site's `maintenance:` (builder/model/site.py)."""

    models_keep_days: int | None
    var_min_free_percent: int


@dataclass(frozen=True)
class Work:
    """One run: where, by which settings, and whether anything is really taken away."""

    settings: Settings
    root: Path
    dry_run: bool
    now: float

    def short_of_space(self) -> bool:
        """Tell whether /var has less free than the site wants."""
        usage = shutil.disk_usage(self.root / "var")
        return usage.free < usage.total * self.settings.var_min_free_percent / 100


def read_settings(root: Path = Path("/")) -> Settings:
    """Return the site's settings. Raises ValueError when the image's facts are damaged."""
    facts = read_json(root / _FACTS) or {}
    try:
        values = facts["maintenance"]
        return Settings(values["models_keep_days"], int(values["var_min_free_percent"]))
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{_FACTS}: maintenance: cannot be understood: {error}") from error


def clean(say: Say, root: Path = Path("/"), *, dry_run: bool = False) -> list[str]:
    """Tidy up; return what could not be done, one line each. A step that fails ends no other.

    Raises ValueError when the image's facts are damaged.
    """
    work = Work(read_settings(root), root, dry_run, time.time())
    faults = []
    for step in (_docker, _layers, _models, _logs, _journal):
        try:
            for told in step(work):
                say(f"would remove {told}" if dry_run else f"removed {told}")
        except (OSError, ValueError, KeyError) as error:
            faults.append(f"{step.__name__.lstrip('_')}: {error}")
    return faults


def _docker(work: Work) -> Iterator[str]:
    yield from images.clean(work.root, dry_run=work.dry_run)


def _layers(work: Work) -> Iterator[str]:
    """Remove layer files that no installed version needs, as each boot does."""
    with locked(work.root):
        found = versions.find_garbage(work.root)
        if found.blocked:
            raise ValueError(found.blocked)
        if not work.dry_run:
            versions.remove(found, Store(work.root))
    yield from (f"layer {name}" for name in (*found.files, *found.parts))
    yield from (f"the list of {stem}" for stem in found.lists)


def _models(work: Work) -> Iterator[str]:
    """Remove fetched models that were long not used; where space is short, all unused ones."""
    keep = work.settings.models_keep_days
    for one in models.unused(work.root):
        old = keep is not None and work.now - one.used > keep * 86400
        if old or work.short_of_space():
            if not work.dry_run:
                models.remove(one)
            days = int((work.now - one.used) // 86400)
            yield f"model {one.model} {one.revision or ''} (last used {days} days ago)"


def _logs(work: Work) -> Iterator[str]:
    yield from logs.rotate(work.root, dry_run=work.dry_run)


def _journal(work: Work) -> Iterator[str]:
    """Shorten the journal where /var is nearly full; else journald's own limit holds."""
    if not work.short_of_space():
        return
    if not work.dry_run:
        argv = ["journalctl", "--rotate", f"--vacuum-size={_VACUUM}"]
        done = process.run(argv, timeout_s=_COMMAND_S)
        if done.rc:
            raise ValueError(done.stderr.strip() or f"journalctl: exit status {done.rc}")
    yield f"all of the journal but {_VACUUM}"
