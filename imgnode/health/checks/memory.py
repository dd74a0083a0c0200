"""Memory: what is left, how long processes wait for it, whom the kernel has killed for it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from imgnode.health.contract import Finding, Level

NAME = "memory"
_MEMINFO, _VMSTAT = Path("proc/meminfo"), Path("proc/vmstat")
_PRESSURE = Path("proc/pressure/memory")  # the kernel's Documentation/accounting/psi.rst
_FULL = re.compile(r"^full avg10=\S+ avg60=(\S+) avg300=(\S+)", re.MULTILINE)
_KILLS = re.compile(r"^oom_kill (\d+)$", re.MULTILINE)
_LOW_SHARE = 0.02  # the profile's serve.memory_percent leaves more than that
_WAITS, _WAITS_LONG = 20.0, 40.0  # % of the time in which nothing could run for want of memory
_TOLD_S = 3600.0
_HINT = "ps -eo rss,comm --sort=-rss | head; serve.memory_percent of the profile"


@dataclass
class MemoryCheck:
    """Whether the node has enough memory for what it does."""

    root: Path = Path("/")
    name: str = NAME
    every_s: float = 30.0
    _kills: int | None = field(init=False, default=None)
    _killed_at: float | None = field(init=False, default=None)

    def supported(self) -> bool:
        """Every kernel tells it."""
        return True

    def look(self, now: float) -> list[Finding]:
        """Look once. Raises OSError or ValueError."""
        return [*self._left(), *self._pressure(), *self._killed(now)]

    def _left(self) -> Iterator[Finding]:
        text = (self.root / _MEMINFO).read_text()
        total, free = (_kib(text, name) for name in ("MemTotal", "MemAvailable"))
        if free < total * _LOW_SHARE:
            fact = f"{free >> 10} MiB of memory left, of {total >> 10}"
            figures = {"available_bytes": free * 1024.0, "total_bytes": total * 1024.0}
            yield Finding(NAME, "low", Level.WARNING, fact, _HINT, evidence=figures)

    def _pressure(self) -> Iterator[Finding]:
        """Yield what waiting for memory costs; nothing where the kernel does not measure it."""
        try:
            found = _FULL.search((self.root / _PRESSURE).read_text())
        except OSError:
            return
        if found is None:
            return
        minute, longer = float(found[1]), float(found[2])
        if minute < _WAITS:
            return
        level = Level.FAILED if longer >= _WAITS_LONG else Level.WARNING
        fact = f"nothing could run for {minute:g} % of the last minute, for want of memory"
        figures = {"full_avg60": minute, "full_avg300": longer}
        yield Finding(NAME, "pressure", level, fact, _HINT, evidence=figures)

    def _killed(self, now: float) -> Iterator[Finding]:
        """Yield whether the kernel has killed for memory since we look, for an hour after it."""
        found = _KILLS.search((self.root / _VMSTAT).read_text())
        kills = int(found[1]) if found else 0
        if self._kills is not None and kills > self._kills:
            self._killed_at = now
        self._kills = kills
        if self._killed_at is not None and now - self._killed_at < _TOLD_S:
            fact = f"the kernel killed for want of memory ({kills} times since boot)"
            hint = "journalctl -k -g 'out of memory'"
            yield Finding(NAME, "oom", Level.WARNING, fact, hint, evidence={"kills": float(kills)})


def _kib(text: str, name: str) -> int:
    found = re.search(rf"^{name}:\s+(\d+) kB$", text, re.MULTILINE)
    if found is None:
        raise ValueError(f"{_MEMINFO}: no {name}")
    return int(found[1])
