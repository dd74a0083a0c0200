"""What a health check hands over, and the contract that each check keeps.

The gate (`imgnode/gate`) judges a boot once; these checks go on as long as the node runs.
`imgnode/recover` acts on what they find, by its remedy.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol


class Level(StrEnum):
    """How bad a finding is, for people and alerts."""

    OK = "ok"
    WARNING = "warning"  # can wait for the day
    FAILED = "failed"  # the node does not do its work, or soon will not


class Remedy(StrEnum):
    """What may mend a finding. The order is that of growing damage to running work."""

    NONE = "none"  # nothing by itself: tell a person where the level says so
    UNIT = "unit"  # restart the unit that `Finding.unit` names
    SERVE = "serve"  # the ladder: stop service, remove container, restart Docker, start, check
    DOCKER = "docker"  # Docker itself is at fault: the ladder from its restart on
    CONFIG = "config"  # bring back configuration from the last good copy
    GPU_RESET = "gpu-reset"  # reset the GPUs that `Finding.gpus` names
    REBOOT = "reboot"
    QUARANTINE = "quarantine"  # take no work until a person has looked


@dataclass(frozen=True)
class Finding:
    """What one look of one check found.

    `key` names the matter within the check and never changes its meaning (metrics and alerts
    go by it); `fact` is the line that people read. `evidence` are the figures behind it.
    """

    check: str
    key: str
    level: Level
    fact: str
    hint: str | None = None
    remedy: Remedy = Remedy.NONE
    unit: str | None = None
    gpus: tuple[int, ...] = ()
    evidence: Mapping[str, str | float] = field(default_factory=dict)


class HealthCheck(Protocol):
    """One thing that is looked at again and again.

    A check keeps what it needs of earlier looks itself. `look` is bounded in time (seconds),
    changes nothing, and returns what is wrong; an empty list is good news. It may raise OSError.
    """

    @property
    def name(self) -> str:
        """The name, as it stands in findings and metrics."""

    @property
    def every_s(self) -> float:
        """Seconds between two looks."""

    def supported(self) -> bool:
        """Tell whether this node has what the check looks at."""

    def look(self, now: float) -> list[Finding]:
        """Look once; `now` is time.monotonic()."""
