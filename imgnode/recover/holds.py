"""Why nothing is done about a trouble now: somebody else is at it, or does not want it."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from imgnode.alone import GATE, holder
from imgnode.files import write_atomic
from imgnode.health.contract import Remedy
from imgnode.health.report import MAINTENANCE
from imgnode.process import run
from imgnode.recover.state import FOLDER, NODE, Trouble
from imgnode.recover.steps import SERVICE
from imgnode.serve import names
from imgnode.serve.facts import read_facts, read_json

_PAUSE = FOLDER / "pause.json"
_ASK_S = 10
_LOAD_S = 1800  # where the image does not say how long a model may load
_SPARE_S = 300
_FETCH_S = 4 * 3600.0
_PATIENCE_S: Mapping[str, float] = {SERVICE: 120.0}
_SHORT_S = 30.0  # for any other unit that systemd restarts by itself
# A model that loads is left alone by these; Docker's own trouble stops a load anyway.
_DISTURBING = frozenset({Remedy.SERVE, Remedy.CONFIG, Remedy.GPU_RESET, Remedy.REBOOT})


@dataclass(frozen=True)
class Unit:
    """How systemd sees a unit: `busy` while it starts or stops it, or is about to."""

    state: str
    busy: bool


Ask = Callable[[str], Unit | None]


def ask_unit(name: str) -> Unit | None:
    """Return how a unit stands, None where systemd does not answer in ten seconds."""
    words = ["systemctl", "show", "--property=ActiveState,Job", name]
    done = run(words, timeout_s=_ASK_S)
    if done.rc:
        return None
    pairs = dict(line.partition("=")[::2] for line in done.stdout.splitlines())
    state = pairs.get("ActiveState", "")
    moving = state in ("activating", "deactivating", "reloading")
    return Unit(state, moving or pairs.get("Job", "") not in ("", "0"))


@dataclass(frozen=True)
class Holds:
    """Looks whether something may be done now; `wall` gives seconds since 1970."""

    root: Path = Path("/")
    ask: Ask = ask_unit
    wall: Callable[[], float] = time.time

    def by_hand(self) -> str | None:
        """Return how a person keeps recovery from acting, None where nobody does."""
        if (self.root / MAINTENANCE).exists():
            return "maintenance"
        return paused(self.wall(), self.root)

    def by_the_gate(self) -> str | None:
        """Return that the gate judges, None where it does not."""
        return "the gate judges this boot" if holder(GATE, self.root) is not None else None

    def of(self, trouble: Trouble, lasts_s: float, now: float) -> str | None:
        """Return why nothing is done about one trouble that lasts so many seconds already.

        `now` is in the seconds of time.monotonic().
        """
        if trouble.remedy in _DISTURBING and self.loading(now):
            return "a model is loading"
        if trouble.remedy in (Remedy.REBOOT, Remedy.QUARANTINE):
            return None
        unit = _unit_of(trouble)
        told = read_json(self.root / names.TOLD) or {}
        if trouble.family == NODE and told.get("state") == names.STOPPED and self._is_off(SERVICE):
            return f"{SERVICE} was stopped by somebody"
        seen = self.ask(unit)
        if seen is None:
            return None
        patience = _PATIENCE_S.get(unit, _SHORT_S)
        if unit == SERVICE and (told.get("starts_failed") or 0) >= names.TRIES:
            patience = 0.0
        return f"systemd restarts {unit}" if seen.busy and lasts_s < patience else None

    def _is_off(self, unit: str) -> bool:
        seen = self.ask(unit)
        return seen is not None and seen.state == "inactive" and not seen.busy

    def loading(self, now: float) -> bool:
        """Tell whether a model load gets on: it is within the time that it may take."""
        told = read_json(self.root / names.TOLD)
        if told is None or told["state"] != names.LOADING:
            return False
        age = min(self.wall() - told["since"], now - (told["began"] or 0.0))
        limit = _FETCH_S if told["phase"] in names.UNTIMED else load_s(self.root) + _SPARE_S
        return bool(age < limit)


def _unit_of(trouble: Trouble) -> str:
    if trouble.remedy == Remedy.UNIT:
        return trouble.unit or ""
    return "docker.service" if trouble.remedy == Remedy.DOCKER else SERVICE


def load_s(root: Path = Path("/")) -> float:
    """Return how long a model may load, in seconds."""
    try:
        return read_facts(root).serve.start_timeout_s
    except (OSError, ValueError):
        return _LOAD_S


def pause(seconds: float | None, now: float, root: Path = Path("/")) -> None:
    """Let nothing be done for so many seconds, or until `resume`. Raises OSError."""
    until = None if seconds is None else now + seconds
    write_atomic(root / _PAUSE, json.dumps({"since": now, "until": until}) + "\n")


def resume(root: Path = Path("/")) -> bool:
    """Let recovery act again; tell whether it was paused. Raises OSError."""
    there = (root / _PAUSE).exists()
    (root / _PAUSE).unlink(missing_ok=True)
    return there


def paused(now: float, root: Path = Path("/")) -> str | None:
    """Return how long recovery is paused, None where it is not."""
    told = read_json(root / _PAUSE)
    if told is None:
        return None
    until = told.get("until")
    if not isinstance(until, int | float):
        return "paused until imgnode recover resume"
    if now >= until:
        return None
    return f"paused until {time.strftime('%Y-%m-%d %H:%M UTC', time.gmtime(until))}"
