"""Stage results by key, shared safely by builds that run at the same time.

Layout under the cache folder: `stages/<stage>/<key>/` (complete results only),
`work/` (results in the making; each held by a file lock, so that what a killed build
left is recognised and removed), `debs/` (packages by digest).
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, TextIO

from builder.core.events import EventSink, Note, Outcome, StageEnded, StageStarted
from builder.core.files import remove_tree, tree_bytes
from builder.core.hashing import sha256_file, sha256_tree, sha256_value

_SIZE = ".bytes"  # beside a result: the space it takes, so that nobody walks it again


@dataclass(frozen=True)
class Entry:
    """One complete stage result in the cache."""

    stage: str
    key: str
    path: Path
    bytes: int
    used_at: float


@dataclass(frozen=True)
class Stage:
    """A named step with everything that its result depends on.

    `inputs` is any JSON value; `code` is the file or folder of the code that does the work,
    so that a changed builder does not serve old results.
    """

    name: str
    inputs: Mapping[str, Any]
    code: Path

    @property
    def key(self) -> str:
        """The cache key: a digest of the inputs and of the code."""
        return sha256_value([self.name, self.inputs, _code_digest(self.code)])


@dataclass(frozen=True)
class Cache:
    """The cache folder; `fresh` ignores earlier results (but still stores new ones)."""

    root: Path
    emit: EventSink
    fresh: bool = False
    _held: list[TextIO] = field(default_factory=list)  # locks of the results in use

    def get(self, stage: Stage, make: Callable[[Path], None]) -> Path:
        """Return the folder with the stage's result, making it first where it is missing.

        `make` fills an empty folder; only when it returns does the result appear under
        its key, in one rename. Whatever it raises leaves nothing behind. As long as this
        process lives, no other one replaces or removes the result.
        """
        final = self.root / "stages" / stage.name / stage.key
        started = time.monotonic()
        self.emit(StageStarted(stage.name))

        def ended(outcome: Outcome, size: int) -> None:
            seconds = time.monotonic() - started
            self.emit(StageEnded(stage.name, outcome, seconds, size, stage.key))

        lock = _open_lock(self._lock_file(final))
        try:
            outcome = self._provide(final, lock, make)
        except BaseException:
            lock.close()
            ended("failed", 0)
            raise
        self._held.append(lock)
        ended(outcome, _bytes(final))
        return final

    @contextlib.contextmanager
    def workspace(self, name: str) -> Iterator[Path]:
        """Give an empty folder on the cache's file system; it is gone afterwards."""
        folder = self.root / "work" / f"{name}-{os.getpid()}-{time.monotonic_ns()}"
        content = folder / "content"
        try:  # before it is made: an interrupt may come as soon as it is there
            with self._guard():
                folder.mkdir(parents=True)
                lock = _try_lock(folder / ".lock")
            with lock:
                content.mkdir()
                yield content
        finally:
            remove_tree(folder)

    def entries(self) -> list[Entry]:
        """Return every stage result, the least recently used first."""
        found = []
        for path in (self.root / "stages").glob("*/*"):
            used = path.stat().st_mtime
            found.append(Entry(path.parent.name, path.name, path, _bytes(path), used))
        return sorted(found, key=lambda entry: entry.used_at)

    def prune(self, *, keep: int) -> list[Entry]:
        """Remove all but the `keep` last used results of each stage; return what went.

        What a running build uses stays.
        """
        gone = []
        seen: dict[str, int] = {}
        for entry in reversed(self.entries()):
            seen[entry.stage] = seen.get(entry.stage, 0) + 1
            if seen[entry.stage] > keep:
                with (
                    contextlib.suppress(BlockingIOError),
                    _try_lock(self._lock_file(entry.path)),
                ):
                    remove_tree(entry.path)
                    gone.append(entry)
        self.sweep()
        return gone

    def sweep(self) -> None:
        """Remove what killed builds left in `work/`; running builds hold their locks."""
        for folder in (self.root / "work").glob("*"):
            # FileNotFoundError: its owner has just removed it.
            with contextlib.suppress(BlockingIOError, FileNotFoundError):
                with self._guard():
                    lock = _try_lock(folder / ".lock")
                with lock:
                    remove_tree(folder)

    def _provide(self, final: Path, lock: TextIO, make: Callable[[Path], None]) -> Outcome:
        """Have the result under a shared `lock`, which keeps prune and --no-cache off it."""
        outcome: Outcome = "cached"
        fcntl.flock(lock, fcntl.LOCK_SH)
        while (self.fresh and outcome == "cached") or not final.is_dir():
            self._lock_alone(lock, final)
            if self.fresh or not final.is_dir():
                self._make(final, make)
                outcome = "built"
            fcntl.flock(lock, fcntl.LOCK_SH)  # for a moment unlocked: look again
        os.utime(final)
        return outcome

    def _lock_alone(self, lock: TextIO, final: Path) -> None:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self.emit(Note("info", f"{final.parent.name}: in use by another build, waiting"))
            fcntl.flock(lock, fcntl.LOCK_EX)

    def _lock_file(self, final: Path) -> Path:
        return self.root / "locks" / f"{final.parent.name}-{final.name}"

    @contextlib.contextmanager
    def _guard(self) -> Iterator[None]:
        """Let no workspace be swept between its making and its lock."""
        with _open_lock(self.root / "locks" / "work") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _make(self, final: Path, make: Callable[[Path], None]) -> None:
        with self.workspace(final.parent.name) as work:
            result = work / "result"
            result.mkdir()
            make(result)
            final.parent.mkdir(parents=True, exist_ok=True)
            if final.exists():
                discarded = work / "discarded"
                final.rename(discarded)
            (result / _SIZE).write_text(str(tree_bytes(result)))
            result.rename(final)
            os.utime(final)


def _bytes(result: Path) -> int:
    return int((result / _SIZE).read_text())


@cache
def _code_digest(code: Path) -> str:
    return sha256_tree(code) if code.is_dir() else sha256_file(code)


def _open_lock(path: Path) -> TextIO:
    path.parent.mkdir(parents=True, exist_ok=True)
    return path.open("w")


def _try_lock(path: Path) -> TextIO:
    """Lock a file alone; raises BlockingIOError when another process holds it."""
    lock = path.open("a")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BaseException:
        lock.close()
        raise
    return lock
