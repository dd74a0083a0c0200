"""What a change of many nodes is, how far it is, and what came of each node: one JSON file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, Final, Literal

from pydantic import Field

from builder.model.base import Closed

Kind = Literal["rollout", "rollback", "update-model"]
State = Literal["running", "paused", "halted", "aborted", "done"]
RUNNING: Final = "running"
PAUSED: Final = "paused"
HALTED: Final = "halted"
ABORTED: Final = "aborted"
DONE: Final = "done"
# What playbooks say of a node (fleet/plugins/filter/imgnode.py), and what is known without them.
WAITING, TAKEN, HELD = "waiting", "taken", "held"
UNREACHABLE, LOST = "unreachable", "lost"
GOOD = frozenset({"updated", "there", "newer", "back"})
BAD = frozenset({"bad", "failed", "sick", "full", "refused", "hung", UNREACHABLE, LOST})
# The node serves as before: nothing had been changed yet.
UNTOUCHED = frozenset({"sick", "full", "refused"})


class Result(Closed):
    """What came of a node, or that it waits."""

    outcome: str = WAITING
    text: str = ""
    version: str = ""
    wave: int | None = None


class Limits(Closed):
    """How much may be changed at once; shares are of all nodes of the job."""

    waves: tuple[str, ...] = ("10%", "25%", "50%")
    by_rack: bool = False
    min_replicas: int = Field(default=1, ge=0)
    max_failed_percent: float = Field(default=10.0, ge=0, le=100)
    soak_s: float = Field(default=300.0, ge=0)
    look_s: float = Field(default=30.0, gt=0)
    roll_back: bool = False


class Job(Closed):
    """`wave` counts the waves that are over: the first one is the canary."""

    schema_version: Literal[1] = 1
    name: str
    kind: Kind
    who: str
    variables: dict[str, Any]
    limits: Limits
    state: State = "running"
    why: str = ""
    wave: int = 0
    hosts: dict[str, Result]

    def put(self, results: Mapping[str, Result]) -> Job:
        """Return the job with other results for some nodes."""
        return self.model_copy(update={"hosts": {**self.hosts, **results}})

    def at(self, state: State, why: str = "") -> Job:
        """Return the job in another state."""
        return self.model_copy(update={"state": state, "why": why})

    def of(self, outcomes: Iterable[str]) -> list[str]:
        """Return the nodes with one of these outcomes, in the job's order."""
        wanted = set(outcomes)
        return [name for name, one in self.hosts.items() if one.outcome in wanted]

    def proven(self) -> list[str]:
        """Return the first nodes, where they have it: they are looked at before all others."""
        return [name for name in self.of(["updated", "there"]) if self.hosts[name].wave == 0]

    def counts(self) -> Counter[str]:
        """Return how many nodes there are of each outcome."""
        return Counter(one.outcome for one in self.hosts.values())

    def stands(self, *, busy: bool) -> str:
        """Return in words how it stands; `busy`: somebody works on it."""
        state = "cut off" if self.state == RUNNING and not busy else self.state
        return f"{state} ({self.why})" if self.why else state

    @property
    def over(self) -> bool:
        """Whether nothing is to be done any more."""
        return self.state in (HALTED, ABORTED, DONE)

    @property
    def good(self) -> bool:
        """Whether it went through, and every node is as wanted."""
        return self.state == DONE and all(one.outcome in GOOD for one in self.hosts.values())

    def failed_percent(self) -> float:
        """Return the share of the nodes that were taken of which nothing good came."""
        tried = [one for one in self.hosts.values() if one.wave is not None]
        bad = sum(one.outcome in BAD for one in tried)
        return 100 * bad / len(tried) if tried else 0.0
