"""What a command tells while it works, as values; the CLI decides how they look."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

Outcome = Literal["built", "cached", "failed"]


@dataclass(frozen=True)
class StageStarted:
    """A stage begins; `stage` is its name."""

    stage: str


@dataclass(frozen=True)
class StageEnded:
    """A stage is over: how, after how long, how many bytes its result holds, under which key."""

    stage: str
    outcome: Outcome
    seconds: float
    bytes: int
    key: str


@dataclass(frozen=True)
class Note:
    """Something the user should know; `level` "debug" is a command that can be pasted."""

    level: Literal["info", "warning", "debug"]
    text: str


Event = StageStarted | StageEnded | Note


class EventSink(Protocol):
    """Takes events, from any thread."""

    def __call__(self, event: Event) -> None:
        """Show or store `event`."""
