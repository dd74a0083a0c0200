"""The memory a build takes at its peak: anonymous memory of all processes, no page cache.

A control group counts it exactly (v1 or v2); without one, the processes below this one
are added up from /proc.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

_V1 = Path("/sys/fs/cgroup/memory")
_V2 = Path("/sys/fs/cgroup")
_POLL_S = 0.05
_REMOVE_S = 10.0
_KIB = 1024
_JOIN = 'echo $$ > "$1/cgroup.procs" && shift && exec "$@"'


@dataclass(frozen=True)
class Memory:
    """Peaks in bytes: of the whole build, and of its largest process; `how` it was taken."""

    total: int
    largest: int
    how: str


@dataclass
class Watch:
    """Samples a group of processes while it runs; `prefix` puts a command into it."""

    group: Path | None
    _total: int = 0
    _largest: int = 0
    _stop: threading.Event = field(default_factory=threading.Event)

    @property
    def prefix(self) -> list[str]:
        """The words before a command that make it a member of the group."""
        return ["sh", "-c", _JOIN, "join", str(self.group)] if self.group else []

    def taken(self) -> Memory:
        """Return the peaks so far."""
        return Memory(self._total, self._largest, "cgroup" if self.group else "/proc")

    def sample(self) -> None:
        """Take samples until `stop`."""
        while not self._stop.wait(_POLL_S):
            members = _members(self.group) if self.group else _below(os.getpid())
            sizes = [_resident(pid) for pid in members]
            total = _anonymous(self.group) if self.group else sum(sizes)
            self._total = max(self._total, total)
            self._largest = max([self._largest, *sizes])

    def stop(self) -> None:
        """End the sampling."""
        self._stop.set()


@contextlib.contextmanager
def watch() -> Iterator[Watch]:
    """Give a watch whose thread runs as long as the block; its group is removed afterwards."""
    group = _new_group()
    taken = Watch(group)
    thread = threading.Thread(target=taken.sample, daemon=True)
    thread.start()
    try:
        yield taken
    finally:
        taken.stop()
        thread.join()
        if group:
            _remove(group)


def _new_group() -> Path | None:
    """Make a control group with a memory controller, or return None where none can be had."""
    for base in (_V1, _V2):
        group = base / f"imgbuild-bench-{os.getpid()}"
        try:
            group.mkdir()
        except OSError:
            continue
        if (group / "memory.stat").exists():
            return group
        group.rmdir()
    return None


def _remove(group: Path) -> None:
    """Remove an empty group; the last processes of an interrupted build may need a moment."""
    deadline = time.monotonic() + _REMOVE_S
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError):
            group.rmdir()
            return
        time.sleep(_POLL_S)


def _anonymous(group: Path) -> int:
    """Return the group's anonymous memory: `total_rss` (v1) or `anon` (v2)."""
    with contextlib.suppress(OSError):
        stat = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
        return int(stat.get("total_rss", stat.get("anon", 0)))
    return 0


def _members(group: Path) -> list[int]:
    with contextlib.suppress(OSError):
        return [int(pid) for pid in (group / "cgroup.procs").read_text().split()]
    return []


def _below(ancestor: int) -> list[int]:
    """Return every process that descends from `ancestor`."""
    parents = {int(path.name): _parent(path) for path in Path("/proc").glob("[0-9]*")}
    found: set[int] = set()
    fresh = {ancestor}
    while fresh:
        fresh = {pid for pid, parent in parents.items() if parent in fresh}
        found |= fresh
    return sorted(found)


def _parent(process: Path) -> int:
    with contextlib.suppress(OSError, IndexError):
        return int((process / "stat").read_text().rpartition(")")[2].split()[1])
    return 0


def _resident(pid: int) -> int:
    """Return a process's resident anonymous memory in bytes; 0 when it is gone."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("RssAnon:"):
                return int(line.split()[1]) * _KIB
    return 0
