"""How recovery is told: `/run/imgnode/recover.json`, metrics, `imgnode status`."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from imgnode import metrics
from imgnode.files import write_atomic
from imgnode.gate import quarantine
from imgnode.recover.state import State
from imgnode.recover.steps import STEPS
from imgnode.serve.facts import read_json

FILE = Path("run/imgnode/recover.json")
IDLE, WAITING, ACTING, GIVEN_UP, PAUSED = STATES = (
    "idle",  # nothing is to be done
    "waiting",  # something is, but not now: the text says why
    "acting",
    "given up",  # nothing is left to be tried: a person is needed
    "paused",
)


@dataclass(frozen=True)
class Told:
    """What recovery does now: one of STATES, and one line for people."""

    state: str = IDLE
    text: str = "nothing to do"


def write(told: Told, state: State, root: Path = Path("/")) -> None:
    """Write the state file and the metrics. Raises OSError for a full /run."""
    write_atomic(root / FILE, json.dumps(asdict(told), indent=1) + "\n")
    metrics.write(
        "recover",
        {
            metrics.RECOVER_STEPS: {(("step", one),): state.totals.get(one, 0) for one in STEPS},
            metrics.RECOVER_ACTIVE: {(): int(told.state == ACTING)},
            metrics.RECOVER_PAUSED: {(): int(told.state == PAUSED)},
            metrics.RECOVER_GIVEN_UP: {(): sum(one.given_up for one in state.episodes.values())},
            metrics.QUARANTINE: {(): int(quarantine.read(root) is not None)},
        },
        root,
    )


def read(root: Path = Path("/")) -> dict[str, Any] | None:
    """Return what was told last, None before there was anything to tell."""
    return read_json(root / FILE)


def lines(told: dict[str, Any] | None, root: Path = Path("/")) -> list[str]:
    """Return the lines of `imgnode status`."""
    why = quarantine.read(root)
    held = [f"recover  QUARANTINE: {why} (hint: {quarantine.hint(root)})"] if why else []
    if told is None or told.get("state") == IDLE:
        return held
    return [*held, f"recover  {told.get('state')}: {told.get('text')}"]
