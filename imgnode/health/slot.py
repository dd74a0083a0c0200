"""One check in the watch: looked at in a thread of its own, which is left behind if it hangs."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from imgnode.health.contract import Finding, HealthCheck, Level
from imgnode.health.report import Seen

HANG_S = 60.0
_EARLY_S = 1.0  # rounds do not begin to the millisecond
_BROKEN = (OSError, ValueError, LookupError, TypeError, AttributeError)


@runtime_checkable
class Tells(Protocol):
    """A check that has more to tell than findings."""

    def tell(self) -> Mapping[str, object]:
        """Return it, by name, as JSON has it."""


def in_thread(work: Callable[[], None]) -> None:
    """Do it beside us; what hangs is left behind."""
    threading.Thread(target=work, daemon=True).start()


@dataclass
class Slot:
    """A check, when it is due, and what it found last. `limit_s` is how long a look may take."""

    check: HealthCheck
    limit_s: float = HANG_S
    beside: Callable[[Callable[[], None]], None] = in_thread
    clock: Callable[[], float] = time.monotonic
    wall: Callable[[], float] = time.time
    _due: float = field(init=False, default=0.0)
    _began: float | None = field(init=False, default=None)  # while a look goes on
    _last: Seen | None = field(init=False, default=None)

    def begin(self, now: float) -> bool:
        """Begin a look where one is due and none goes on; tell whether one was begun."""
        if now < self._due - _EARLY_S or self._began is not None:
            return False
        self._due = now + self.check.every_s
        self._began = now
        self.beside(self._look)
        return True

    @property
    def busy(self) -> bool:
        """Whether a look goes on."""
        return self._began is not None

    def seen(self, now: float) -> Seen | None:
        """Return what was found last; None before the end of the first look.

        A look that takes too long is a finding of its own, beside what was found before.
        """
        began, last = self._began, self._last
        if began is None or now - began <= self.limit_s:
            return last
        name = self.check.name
        fact = f"the check {name} has been hanging for {now - began:.0f} s"
        hint = "what it looks at hangs, too; systemctl status imgnode-health"
        hung = Finding(name, "hang", Level.FAILED, fact, hint)
        before = last or Seen(name, (), self.wall(), 0.0)
        return Seen(name, (*before.findings, hung), before.when, before.took, before.more)

    def _look(self) -> None:
        began, name = self.clock(), self.check.name
        fact = f"the check {name} failed: see the journal"
        hint = "journalctl -b -u imgnode-health"
        found = [Finding(name, "broken", Level.WARNING, fact, hint)]
        try:
            found = self.check.look(began)
        except _BROKEN as error:
            fact = f"the check {name} cannot look: {type(error).__name__}: {error}"
            found = [Finding(name, "broken", Level.WARNING, fact, hint)]
        finally:
            more = self.check.tell() if isinstance(self.check, Tells) else {}
            self._last = Seen(name, tuple(found), self.wall(), self.clock() - began, more)
            self._began = None
