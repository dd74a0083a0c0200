"""What was measured, as values: pairs of runs, goals, and where time went."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Figure:
    """One line of the table.

    `ours` and `theirs` hold one value per run. The goal is an upper limit of ours divided
    by theirs, or of ours alone when `absolute`.
    """

    name: str
    unit: str
    ours: Sequence[float]
    theirs: Sequence[float]
    goal: float
    absolute: bool = False
    where: Mapping[str, str] = field(default_factory=dict)

    @property
    def ratio(self) -> float | None:
        """Ours divided by theirs, medians; None without theirs."""
        return median(self.ours) / median(self.theirs) if self.theirs else None

    @property
    def met(self) -> bool:
        """Whether the goal is reached."""
        value = median(self.ours) if self.absolute or self.ratio is None else self.ratio
        return value <= self.goal


def median(values: Sequence[float]) -> float:
    """Return the median of at least one value."""
    return statistics.median(values)


def spent(parts: Mapping[str, Sequence[float]]) -> str:
    """Return named medians in seconds as one line."""
    return ", ".join(f"{name} {median(values):.1f} s" for name, values in parts.items())


def gathered(runs: Sequence[Mapping[str, float]]) -> dict[str, list[float]]:
    """Turn one mapping per run into one list of values per name."""
    names = dict.fromkeys(name for run in runs for name in run)
    return {name: [run[name] for run in runs if name in run] for name in names}
