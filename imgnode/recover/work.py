"""The programs of one step, one after the other, without waiting for them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from imgnode import process
from imgnode.recover.steps import Command

LATE = 124  # as imgnode.process: its time ran out
_MISSING = 127
_LOOK_S = 0.2


class Running(Protocol):
    """A child, as imgnode.process.Child is one."""

    def wait(self, *, timeout_s: float) -> int | None:
        """Return the exit code, None while it runs."""

    def kill(self) -> None:
        """End it."""


Start = Callable[[Sequence[str]], Running]


def start(argv: Sequence[str]) -> Running:
    """Start a program whose output is ours. Raises OSError."""
    return process.start(argv, env={})


class Work:
    """Goes through the commands of a step; what fails is noted, and the next one has its turn."""

    def __init__(self, commands: Sequence[Command], begin: Start) -> None:
        self._left = list(commands)
        self._begin = begin
        self._now: Command | None = None
        self._child: Running | None = None
        self._since = 0.0
        self._late = False
        self.rc = 0  # of the command that ended last

    def poll(self, now: float) -> bool:
        """Go on; tell whether all is done. `now` is in seconds of time.monotonic()."""
        while True:
            if self._child is None and not self._next(now):
                return True
            if self._child is None:
                continue
            rc = self._child.wait(timeout_s=_LOOK_S)
            if rc is None and self._now and now - self._since > self._now.timeout_s:
                self._child.kill()
                self._child.wait(timeout_s=_LOOK_S)
                rc, self._late = LATE, True
            if rc is None:
                return False
            self.rc, self._child = rc, None

    def _next(self, now: float) -> bool:
        """Begin the next command; tell whether there was one."""
        while self._left:
            self._now, self._since = self._left.pop(0), now
            if self._now.if_late and not self._late:
                continue
            try:
                self._child = self._begin(self._now.argv)
            except OSError:
                self.rc = _MISSING
            return True
        return False
