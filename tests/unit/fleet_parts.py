"""An engine that plays nodes, for the tests of the fleet."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from builder.fleet.conduct import Conductor
from builder.fleet.engine import Answers, Listener
from builder.fleet.job import Job, Limits, Result
from builder.fleet.store import Store
from builder.fleet.waves import Candidate

MODEL = "Org/Model"


class Killed(Exception):
    """The control machine goes down."""


@dataclass
class Plays:
    """Gives each node the outcome that it was told; notes what was run."""

    outcomes: dict[str, str] = field(default_factory=dict)
    ran: list[tuple[str, list[str]]] = field(default_factory=list)
    before: Callable[[str, Sequence[str]], None] = lambda _playbook, _names: None

    def run(
        self,
        playbook: str,
        names: Sequence[str],
        variables: Mapping[str, Any],
        listener: Listener | None = None,
    ) -> Answers:
        assert variables
        self.ran.append((playbook, list(names)))
        heard = listener or Listener()
        self.before(playbook, names)
        for name in names:
            good = "well" if playbook == "verify" else "updated"
            outcome = self.outcomes.get(f"{playbook}:{name}", self.outcomes.get(name, good))
            if playbook == "verify" and outcome == "updated":
                outcome = good
            heard.answers.results[name] = Result(outcome=outcome)
            heard.told(name, heard.answers.results[name])
        return heard.answers

    @property
    def waves(self) -> list[list[str]]:
        return [names for playbook, names in self.ran if playbook != "verify"]


def names(count: int) -> list[str]:
    return [f"n{number:02}" for number in range(count)]


def candidates(count: int, model: str = MODEL) -> list[Candidate]:
    return [Candidate(name, f"r{i % 3}", model) for i, name in enumerate(names(count))]


def job(count: int, **limits: Any) -> Job:  # noqa: ANN401
    return Job(
        name="1",
        kind="rollout",
        who="ops@desk",
        variables={"fleet_version": "2"},
        limits=Limits(**{"soak_s": 0, **limits}),
        hosts={name: Result() for name in names(count)},
    )


def conductor(folder: Path, plays: Plays, there: Sequence[Candidate]) -> Conductor:
    def ignore(_name: str, _text: str) -> None:
        pass

    return Conductor(Store(folder), plays, there, ignore, ignore, sleep=lambda _: None)
