"""Where the bench works, and what every part of it is handed."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from builder.core.errors import UserError
from builder.core.files import remove_tree
from builder.core.paths import Project
from builder.core.process import Runner
from builder.model.spec import Spec
from builder.resolve import resolve

PROFILE = "bare"
SITE = "debian"


@dataclass(frozen=True)
class Place:
    """The bench's folders, the project it measures and the door to other programs."""

    project: Project
    spec: Spec
    runner: Runner
    folder: Path

    @property
    def tools(self) -> Path:
        """The tree that holds mkosi and what it needs; kept between runs."""
        return self.folder / "tools"

    @property
    def mkosi(self) -> Path:
        """The folder mkosi works in; its package cache is kept, the rest made anew."""
        return self.folder / "mkosi"

    @property
    def cache(self) -> Path:
        """The cache of the measured imgbuild, apart from the user's own."""
        return self.folder / "imgbuild"

    @property
    def out(self) -> Path:
        """The image that imgbuild made last."""
        return self.folder / "out"

    @property
    def changed(self) -> Path:
        """The copy of the project in which one overlay file changes."""
        return self.folder / "project"

    @property
    def vm(self) -> Path:
        """Disks of virtual machines."""
        return self.folder / "vm"

    @property
    def updates(self) -> Path:
        """Versions and nodes of the bench of updates."""
        return self.folder / "updates"

    @property
    def passing(self) -> tuple[Path, ...]:
        """What must not outlive a run; tools and downloads are kept."""
        work = tuple(self.mkosi / name for name in ("cache", "out", "work"))
        return (self.cache, self.out, self.changed, self.vm, self.updates, *work)


@contextmanager
def opened() -> Iterator[Place]:
    """Give the bench's place; work folders and running programs go with it."""
    if os.geteuid() != 0:
        raise UserError("the bench builds images", hint="run as root")
    project = Project.find()
    runner = Runner()
    place = Place(project, resolve(project, PROFILE, SITE), runner, project.root / ".cache/bench")
    place.folder.mkdir(parents=True, exist_ok=True)
    with (place.folder / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(f"{place.folder}: another bench runs") from None
        try:
            yield place
        finally:
            runner.close()
            for folder in place.passing:
                remove_tree(folder)


def say(text: str) -> None:
    """Tell the person at the terminal what happens."""
    print(text, flush=True)
