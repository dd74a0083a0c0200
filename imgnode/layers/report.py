"""What a run over the layer store found, and how it is told: journal, metrics, exit code."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from imgnode import metrics
from imgnode.layers.store import Store
from imgnode.payload import LayerFile, Payload
from imgnode.problems import Problem

_ERR = "<3>"  # sd-daemon(3): the journal's priority err


class State(StrEnum):
    """How a layer file stands."""

    MOUNTED = "mounted"
    MISSING = "missing"
    CORRUPT = "corrupt"
    FAILED = "not mounted"


@dataclass(frozen=True)
class Outcome:
    """One file: how it stands, and what is wrong with it."""

    file: LayerFile
    what: str
    state: State
    problem: Problem | None = None


@dataclass(frozen=True)
class Report:
    """What a run found: each file, what else went wrong, what was done."""

    outcomes: tuple[Outcome, ...] = ()
    others: tuple[Problem, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def problems(self) -> tuple[Problem, ...]:
        """Everything that is wrong, files first."""
        found = tuple(one.problem for one in self.outcomes if one.problem)
        return (*found, *self.others)

    @property
    def good(self) -> bool:
        """Whether nothing is wrong."""
        return not self.problems

    def count(self, *states: State) -> int:
        """Return how many files are in one of the states."""
        return sum(one.state in states for one in self.outcomes)


def titles(payload: Payload) -> dict[str, str]:
    """Return what each file holds, for people, by root hash."""
    layers = payload.container.layers if payload.container else ()
    named = [(layer.root_hash, layer.title) for layer in layers]
    named += [(model.root_hash, model.model) for model in payload.models]
    found: dict[str, str] = {}
    for root_hash, title in named:
        found[root_hash] = f"{found[root_hash]}, {title}" if root_hash in found else title
    return found


def label(file: LayerFile, what: str) -> str:
    """Return how a file is called in a message."""
    return f"layer {what} ({file.root_hash[:12]})"


def tell(report: Report) -> None:
    """Print what was done, and what is wrong to standard error, for the journal as errors."""
    prefix = _ERR if os.environ.get("JOURNAL_STREAM") else ""
    for note in report.notes:
        print(f"layers: {note}")
    for problem in report.problems:
        line = "".join(c if c.isprintable() else "?" for c in str(problem))
        print(f"{prefix}layers: {line}", file=sys.stderr)


def publish(report: Report, root: Path) -> None:
    """Write the metrics. Raises OSError."""
    samples = {
        metrics.LAYER_FILES: len(report.outcomes),
        metrics.LAYERS_MISSING: report.count(State.MISSING, State.FAILED),
        metrics.LAYERS_CORRUPT: report.count(State.CORRUPT),
        metrics.LAYER_BYTES: Store(root).bytes(),
    }
    metrics.write("layers", {name: {(): value} for name, value in samples.items()}, root)
