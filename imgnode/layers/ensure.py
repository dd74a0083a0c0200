"""Sees to it that a layer file is there, whole and mounted, whatever state it was left in."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from imgnode.layers import mounts
from imgnode.layers.fetch import Server, fetch
from imgnode.layers.report import Outcome, State, label
from imgnode.layers.store import Store, intact, size_of
from imgnode.payload import LayerFile
from imgnode.problems import Problem


@dataclass(frozen=True)
class Keeper:
    """Keeps the files of one version: knows the store, the server and each file's title."""

    store: Store
    server: Server
    titles: Mapping[str, str]

    @property
    def root(self) -> Path:
        """The root that the store lies below."""
        return self.store.root

    def what(self, file: LayerFile) -> str:
        """Return what a file holds, for people."""
        return self.titles.get(file.root_hash, "unnamed")

    def ensure(self, files: Iterable[LayerFile]) -> list[Outcome]:
        """Bring files to their places, each whatever becomes of the others.

        Never raises for what the disk or the server does.
        """
        outcomes = [self._safe(file, self._ensure) for file in files]
        good = mounts.verdicts()
        return [
            self._safe(one.file, self._renew)
            if one.state is State.MOUNTED and not good.get(mounts.device_name(one.file), True)
            else one
            for one in outcomes
        ]

    def repair(self, file: LayerFile) -> Outcome:
        """Put a good file in the place of a damaged one. Never raises, as `ensure`."""
        return self._safe(file, self._renew)

    def _safe(self, file: LayerFile, step: Callable[[LayerFile], Outcome]) -> Outcome:
        try:
            return step(file)
        except OSError as error:
            fact = f"{error.filename or self.store.folder}: {error.strerror}"
            return self._told(file, State.FAILED, fact, "df; dmesg")

    def _renew(self, file: LayerFile) -> Outcome:
        return self._replace(file, "a block was read that is not as it should be")

    def _replace(self, file: LayerFile, said: str) -> Outcome:
        """Put a good file in the place of one that was found damaged, and open it anew.

        One that is whole after all is kept: then `said` was about a device, not about the file.
        Until there is a good one, what is mounted stays: most of it can still be read.
        """
        whole = intact(self.store.path(file), file)
        if not whole and size_of(self.store.path(file)) is not None:
            self.store.set_aside(file)
        problem = None if whole else self._fetch(file)
        if problem:
            return Outcome(file, self.what(file), State.CORRUPT, problem)
        in_use = mounts.close_layer(file, self.root)
        if in_use:
            fact = f"{said}; its file is good now, but what is mounted of it is in use: {in_use}"
            hint = "stop the containers, then: imgnode layers apply; or reboot"
            return self._told(file, State.CORRUPT, fact, hint)
        refused = mounts.open_layer(file, self.store.path(file), self.root)
        if refused is None:
            return Outcome(file, self.what(file), State.MOUNTED)
        fact = f"its bytes are right, but it cannot be opened: {refused}"
        return self._told(file, State.FAILED, fact, "dmesg; memory or disk may be failing")

    def _ensure(self, file: LayerFile) -> Outcome:
        problem = self._bring(file)
        if mounts.is_mounted(file, self.root):  # by a file that may have gone since
            return Outcome(file, self.what(file), State.MOUNTED, problem)
        if problem:
            bad = self.store.bad(file).exists()
            return Outcome(file, self.what(file), State.CORRUPT if bad else State.MISSING, problem)
        refused = mounts.open_layer(file, self.store.path(file), self.root)
        if refused is not None:
            return self._replace(file, refused)
        return Outcome(file, self.what(file), State.MOUNTED)

    def _bring(self, file: LayerFile) -> Problem | None:
        """See to it that the store has the file; only its size is looked at."""
        path = self.store.path(file)
        if size_of(path) == file.bytes:
            return None
        if path.is_symlink() or path.exists():
            self.store.set_aside(file)
        return self._fetch(file)

    def _fetch(self, file: LayerFile) -> Problem | None:
        return fetch(file, self.store, self.server, label(file, self.what(file)))

    def _told(self, file: LayerFile, state: State, fact: str, hint: str | None) -> Outcome:
        problem = Problem(label(file, self.what(file)), fact, hint)
        return Outcome(file, self.what(file), state, problem)
