"""What recovery remembers over crashes and reboots: `/var/lib/imgnode/recover/state.json`.

Times are seconds since 1970. A clock that was set back must neither free nor block anything for
long: a time to come counts as now.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from imgnode.files import write_atomic
from imgnode.health.contract import Finding, Remedy

FOLDER = Path("var/lib/imgnode/recover")
_FILE = FOLDER / "state.json"
_BOOT = Path("proc/sys/kernel/random/boot_id")
HOUR, DAY = 3600.0, 86400.0
NODE = "node"  # the family of all trouble but that of single units
_MOST = 500


@dataclass(frozen=True)
class Trouble:
    """What is to be mended, out of a finding."""

    check: str
    key: str
    remedy: Remedy
    fact: str
    unit: str | None = None
    gpus: tuple[int, ...] = ()

    @property
    def family(self) -> str:
        """What is mended together: a single unit, or the node's work as a whole."""
        return self.unit or NODE if self.remedy == Remedy.UNIT else NODE


@dataclass(frozen=True)
class Episode:
    """One trouble from its first rung until it is over; `tried` are the rungs that did not help."""

    trouble: Trouble
    began: float
    tried: tuple[str, ...] = ()
    given_up: bool = False


@dataclass(frozen=True)
class Running:
    """The rung that is being done: `step` is the index of its step, or behind the last: the check.

    `began` is in seconds since 1970, `mono` in those of the boot `boot`. `manual`: for a person.
    """

    family: str
    rung: str
    step: int
    began: float
    mono: float
    boot: str
    manual: bool = False


@dataclass(frozen=True)
class State:
    """`tally`: what was done when, of the last day. `totals`: steps ever taken, by name."""

    tally: tuple[tuple[str, float], ...] = ()
    totals: Mapping[str, int] = field(default_factory=dict)
    episodes: Mapping[str, Episode] = field(default_factory=dict)
    running: Running | None = None

    def count(self, name: str, now: float, within_s: float) -> int:
        """Return how often something was done within the last so many seconds."""
        return sum(1 for one, when in self.tally if one == name and when > now - within_s)

    def last(self, name: str, now: float) -> float | None:
        """Return how many seconds ago something was done last, None where it was not."""
        ages = [now - when for one, when in self.tally if one == name]
        return min(ages, default=None)

    def in_time(self, now: float) -> State:
        """Return the state by a clock that was set back: nothing lies in the time to come."""
        if all(when <= now for _, when in self.tally):
            return self
        return replace(self, tally=tuple((one, min(when, now)) for one, when in self.tally))

    def noted(self, name: str, now: float, *, step: str | None = None) -> State:
        """Return the state after something was done now; `step` is what the totals count."""
        kept = [(one, when) for one, when in self.tally if when > now - DAY]
        totals = {**self.totals, step: self.totals.get(step, 0) + 1} if step else self.totals
        return replace(self, tally=(*kept, (name, now))[-_MOST:], totals=totals)

    def with_episode(self, family: str, episode: Episode | None) -> State:
        """Return the state with another episode of a family, or without."""
        rest = {name: one for name, one in self.episodes.items() if name != family}
        return replace(self, episodes={**rest, family: episode} if episode else rest)


def trouble_of(finding: Finding) -> Trouble:
    """Return what a finding asks to be mended."""
    return Trouble(
        finding.check, finding.key, finding.remedy, finding.fact, finding.unit, finding.gpus
    )


def boot_id(root: Path = Path("/")) -> str:
    """Return the name of this boot (random(4)), empty where it cannot be told."""
    try:
        return (root / _BOOT).read_text().strip()
    except OSError:
        return ""


class Store:
    """The state on the disk; others may change it between two looks."""

    def __init__(self, root: Path = Path("/")) -> None:
        self._path = root / _FILE
        self._known: tuple[int, int] | None = None
        self._state = State()

    def load(self, now: float) -> State:
        """Return the state. A damaged file is kept aside, and counts as a reboot just now."""
        stamp = self._stamp()
        if stamp is None and self._known is not None:
            self._known, self._state = None, State()  # a person has removed it
        elif stamp is not None and stamp != self._known:
            try:
                self._state = _parse(json.loads(self._path.read_text()))
                self._known = stamp
            except (OSError, ValueError, TypeError, KeyError, AttributeError):
                self._keep_aside()
                self.save(_after_damage(now))
        return self._state

    def save(self, state: State) -> bool:
        """Keep a state; tell whether it is on the disk. It is in memory in any case."""
        self._state = state
        try:
            write_atomic(self._path, json.dumps(asdict(state), indent=1) + "\n", 0o600)
        except OSError:
            return False
        self._known = self._stamp()
        return True

    def _stamp(self) -> tuple[int, int] | None:
        try:
            info = self._path.stat()
        except OSError:
            return None
        return info.st_mtime_ns, info.st_ino

    def _keep_aside(self) -> None:
        try:
            self._path.replace(self._path.with_suffix(".bad"))
        except OSError:
            return


def _after_damage(now: float) -> State:
    """Return what is safe to believe where nothing is known: no further reboot for an hour."""
    return State().noted("reboot", now)


def _parse(values: dict[str, Any]) -> State:
    running = values.get("running")
    return State(
        tally=tuple((str(name), float(when)) for name, when in values.get("tally", [])),
        totals={str(name): int(n) for name, n in values.get("totals", {}).items()},
        episodes=dict(_episodes(values.get("episodes", {}).items())),
        running=Running(**running) if running else None,
    )


def _episodes(items: Iterable[tuple[str, Any]]) -> Iterable[tuple[str, Episode]]:
    for family, value in items:
        told = value["trouble"]
        trouble = Trouble(**{**told, "remedy": Remedy(told["remedy"]), "gpus": tuple(told["gpus"])})
        tried = tuple(str(one) for one in value["tried"])
        yield family, Episode(trouble, float(value["began"]), tried, bool(value["given_up"]))
