"""Recovery for a person: the same steps, without limits and holds, but one actor at a time."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from imgnode.alone import CHANGE, Lock
from imgnode.gate import quarantine
from imgnode.health.contract import Finding, Remedy
from imgnode.recover import history
from imgnode.recover.engine import ACTOR, Engine
from imgnode.recover.state import Store, Trouble
from imgnode.recover.steps import STEPS, Target
from imgnode.recover.work import Start, Work, start

_POLL_S = 1.0


class Busy(Exception):
    """Somebody else changes something on this node just now."""

    def __init__(self, who: str) -> None:
        hint = "try again when it has ended"
        if who == ACTOR:
            hint = "imgnode recover pause ends its wait in seconds; then try again"
        super().__init__(f"{who} goes on; nothing was done (hint: {hint})")


def run_ladder(root: Path = Path("/")) -> bool:
    """Run the first rung and wait; tell whether the node serves. Raises Busy or OSError."""
    why = quarantine.read(root)
    if why is not None:
        raise Busy(f"a quarantine ({why})")
    engine = Engine(root, alerts=_nobody)
    trouble = Trouble("person", "run", Remedy.SERVE, "a person asked for it")
    busy = engine.order(trouble, time.monotonic())
    if busy is not None:
        raise Busy(busy)
    while engine.state.running is not None:
        time.sleep(_POLL_S)
        engine.consider((), time.monotonic())
    return history.read(root)[-1].get("event") == "recovered"


def run_step(name: str, target: Target, root: Path = Path("/"), begin: Start = start) -> int:
    """Run one step to its end; return the exit code of its last program. Raises Busy, OSError."""
    lock = Lock(CHANGE, root)
    busy = lock.take("recovery by hand")
    if busy is not None:
        raise Busy(busy)
    try:
        store = Store(root)
        store.save(store.load(time.time()).noted(name, time.time(), step=name))
        if name == "quarantine":
            quarantine.impose("a person took the step", root, lasting=True)
        work = Work(STEPS[name].commands(target), begin)
        while not work.poll(time.monotonic()):
            time.sleep(_POLL_S)
    finally:
        lock.release()
    note("step", f"{name} by a person: exit code {work.rc}", root)
    return work.rc


def forget(root: Path = Path("/")) -> None:
    """Forget what was tried: after a person has mended the node, all begins anew."""
    store = Store(root)
    store.save(replace(store.load(time.time()), tally=(), episodes={}, running=None))


def note(event: str, text: str, root: Path = Path("/")) -> None:
    """Add what a person did to the history."""
    told = {"when": round(time.time()), "event": event, "check": "person", "key": event}
    with contextlib.suppress(OSError):
        history.add({**told, "text": text}, root)


def _nobody(_findings: Sequence[Finding], _now: float) -> None:
    """Raise no alert: a person is there."""
