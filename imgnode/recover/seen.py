"""Since when each trouble is seen, in seconds of time.monotonic()."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from imgnode.health.contract import Finding, Level, Remedy
from imgnode.recover.ladder import severity
from imgnode.recover.state import Trouble, trouble_of

_AWAY_S = 60.0  # so long a trouble must be gone before it is over without our doing
_Name = tuple[str, str, str, str | None]


@dataclass
class Seen:
    """The troubles of the last minute."""

    _times: dict[_Name, tuple[float, float]] = field(default_factory=dict)  # first and last
    _since: float | None = None
    _last: tuple[Trouble, ...] = ()

    def look(self, findings: Iterable[Finding], now: float) -> list[Trouble]:
        """Return what is to be mended, the worst first: what is acted on, no more."""
        self._since = now if self._since is None else self._since
        troubles = [trouble_of(one) for one in findings if is_trouble(one)]
        for one in troubles:
            first, _ = self._times.get(_name(one), (now, now))
            self._times[_name(one)] = (first, now)
        self._times = {name: at for name, at in self._times.items() if now - at[1] <= _AWAY_S}
        self._last = tuple(sorted(troubles, key=lambda one: -severity(one.remedy)))
        return list(self._last)

    def now(self) -> tuple[Trouble, ...]:
        """Return what the last look has seen."""
        return self._last

    def lasts_s(self, trouble: Trouble, now: float) -> float:
        """Return for how long a trouble is seen already."""
        return now - self._times.get(_name(trouble), (now, now))[0]

    def is_away(self, family: str, now: float) -> bool:
        """Tell whether no trouble of a family has been seen for a minute."""
        if self._since is None or now - self._since <= _AWAY_S:
            return False
        return all(name[0] != family for name in self._times)


def is_trouble(finding: Finding) -> bool:
    """Tell whether a finding is acted on: what failed and can be mended.

    A unit is restarted for a warning, too: that costs no running work.
    """
    if finding.remedy == Remedy.UNIT:
        return finding.level != Level.OK and finding.unit is not None
    return finding.level == Level.FAILED and finding.remedy != Remedy.NONE


def _name(trouble: Trouble) -> _Name:
    return (trouble.family, trouble.check, trouble.key, trouble.unit)
