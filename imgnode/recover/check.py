"""Whether a rung has helped: the trouble is gone, and where the node serves, it serves again."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from imgnode.health.contract import Finding, Level, Remedy
from imgnode.recover.holds import load_s
from imgnode.recover.ladder import Rung
from imgnode.recover.state import Running, Trouble
from imgnode.serve import names
from imgnode.serve.facts import read_json

_SETTLED_S = 10.0  # so long nothing may be wrong
_SPARE_S = 180.0
_SHUTDOWN_S = 300.0
_HOPELESS_S = 20.0
_UNTIMED_S = 4 * 3600.0


@dataclass
class Check:
    """Looks again and again after a rung; `since` is time.monotonic() at the first look.

    `hopeless`: a step failed without which the rung can hardly have helped.
    """

    running: Running
    rung: Rung
    trouble: Trouble
    same_boot: bool
    since: float
    root: Path = Path("/")
    hopeless: bool = False
    _free: float = field(init=False, default=0.0)
    _last: float = field(init=False, default=0.0)
    _good: float | None = field(init=False, default=None)
    _failed: set[float] = field(init=False, default_factory=set)

    def look(self, findings: Iterable[Finding], now: float) -> bool | None:
        """Return whether the rung has helped; None: not to be told yet."""
        told = read_json(self.root / names.TOLD) if self.rung.serves else None
        untimed = told is not None and told["phase"] in names.UNTIMED
        if untimed and self._last and self._free < _UNTIMED_S:
            self._free += now - self._last
        self._last = now
        if not self._is_there(findings) and self._serves(told):
            self._good = now if self._good is None else self._good
            return True if now - self._good >= _SETTLED_S else None
        self._good = None
        if self._has_failed(told):
            return False
        return False if now - self.since - self._free > self.limit_s else None

    @property
    def limit_s(self) -> float:
        """How long it may take, in seconds, without the time of fetching."""
        if self.hopeless:
            return _HOPELESS_S
        if self.rung.name == Remedy.REBOOT and self.same_boot:
            return _SHUTDOWN_S
        return load_s(self.root) + _SPARE_S if self.rung.serves else _SPARE_S

    def _is_there(self, findings: Iterable[Finding]) -> bool:
        if self.rung.name == Remedy.REBOOT and self.same_boot:
            return True  # it is not the next boot yet
        mine = (self.trouble.check, self.trouble.key, self.trouble.unit)
        there = (one for one in findings if one.level != Level.OK)
        return any((one.check, one.key, one.unit) == mine for one in there)

    def _serves(self, told: dict[str, Any] | None) -> bool:
        if not self.rung.serves:
            return True
        if told is None or not self._is_new(told):
            return False
        return told["state"] in (names.SERVING, names.SKIPPED)

    def _has_failed(self, told: dict[str, Any] | None) -> bool:
        """Tell whether as many starts failed as a config has tries: the proven one had its turn."""
        if told is not None and told["state"] == names.FAILED and self._is_new(told):
            self._failed.add(told["began"] or 0.0)
        return len(self._failed) >= 2 * names.TRIES

    def _is_new(self, told: dict[str, Any]) -> bool:
        """Tell whether this is what a start after the rung said."""
        if told["state"] == names.SKIPPED or not self.same_boot:
            return True
        return (told["began"] or 0.0) >= self.running.mono
