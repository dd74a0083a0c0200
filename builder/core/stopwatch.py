"""Notes when the stages of a build began and ended."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from builder.core.events import Event, EventSink, StageEnded


@dataclass
class Stopwatch:
    """Hands events on, and keeps (stage, start, seconds, outcome) of each that has ended."""

    onwards: EventSink
    began: float = field(default_factory=time.monotonic)
    ended: list[tuple[str, float, float, str]] = field(default_factory=list)

    def __call__(self, event: Event) -> None:
        """Take an event, from any thread: a list's append is one step."""
        if isinstance(event, StageEnded):
            start = max(0.0, time.monotonic() - self.began - event.seconds)
            self.ended.append((event.stage, start, event.seconds, event.outcome))
        self.onwards(event)

    @property
    def worked(self) -> bool:
        """Tell whether a stage was made, not only taken from the cache."""
        return any(outcome == "built" for _, _, _, outcome in self.ended)
