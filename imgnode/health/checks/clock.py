"""The clock: after the image was made, in step with a time server, without jumps."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from imgnode.health.contract import Finding, Level, Remedy

NAME = "clock"
_UNIT = "systemd-timesyncd.service"
_FACTS = Path("usr/lib/imgnode/image.json")
# systemd-timesyncd.service(8): touched whenever a server has answered, each 34 minutes at most.
_SYNCHRONISED = Path("run/systemd/timesync/synchronized")
_SILENT_S = 6 * 3600.0
_BOOT_S = 900.0  # so long after boot a first answer may take
_JUMP_S = 2.0
_TOLD_S = 900.0
_HINT = "timedatectl timesync-status; the time servers of the site"


@dataclass
class ClockCheck:
    """Whether certificates, logs and channels can go by the time."""

    root: Path = Path("/")
    wall: Callable[[], float] = time.time
    name: str = NAME
    every_s: float = 10.0
    _offset: float | None = field(init=False, default=None)
    _jump: float = field(init=False, default=0.0)
    _jumped_at: float | None = field(init=False, default=None)

    def supported(self) -> bool:
        """Every node has a clock."""
        return True

    def look(self, now: float) -> list[Finding]:
        """Look once. Raises OSError or ValueError where the image does not say its time."""
        wall = self.wall()
        epoch = json.loads((self.root / _FACTS).read_text())["epoch"]
        found = [*self._jumps(now, wall)]
        if wall < epoch:
            fact = f"the clock says {_day(wall)}, the image is of {_day(epoch)}"
            hint = f"the clock's battery; {_HINT}"
            return [*found, _finding("behind", Level.FAILED, fact, hint)]
        return [*found, *self._answers(now, wall)]

    def _jumps(self, now: float, wall: float) -> Iterator[Finding]:
        """Yield a jump for a while. Monotonic time is slewed along, and never set (time(7))."""
        offset = wall - now
        if self._offset is not None and abs(offset - self._offset) > _JUMP_S:
            self._jump, self._jumped_at = offset - self._offset, now
        self._offset = offset
        if self._jumped_at is not None and now - self._jumped_at < _TOLD_S:
            fact = f"the clock jumped by {self._jump:+.0f} s"
            figures = {"seconds": round(self._jump, 1)}
            yield Finding(NAME, "jump", Level.WARNING, fact, _HINT, evidence=figures)

    def _answers(self, now: float, wall: float) -> Iterator[Finding]:
        try:
            silent = wall - (self.root / _SYNCHRONISED).stat().st_mtime
        except OSError:
            if now < _BOOT_S:
                return
            yield _finding("unsynchronised", Level.WARNING, "no time server has answered", _HINT)
            return
        if silent > _SILENT_S:
            fact = f"no time server has answered for {silent / 3600:.0f} hours"
            yield _finding("unsynchronised", Level.WARNING, fact, _HINT)


def _finding(key: str, level: Level, fact: str, hint: str) -> Finding:
    return Finding(NAME, key, level, fact, hint, Remedy.UNIT, _UNIT)


def _day(seconds: float) -> str:
    return time.strftime("%Y-%m-%d", time.gmtime(seconds))
