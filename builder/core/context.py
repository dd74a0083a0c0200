"""What every stage is handed: where it works, how it runs programs, whom it tells."""

from __future__ import annotations

from dataclasses import dataclass

from builder.core.cache import Cache
from builder.core.events import EventSink
from builder.core.paths import Project
from builder.core.process import Runner


@dataclass(frozen=True)
class Context:
    """The surroundings of one command."""

    project: Project
    runner: Runner
    cache: Cache
    emit: EventSink
