"""The results as a page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from bench.fleet.cases import FIRST_PLAN, PLAN, ROLLOUT, STATUS, Figure
from bench.report import machine

_PLANNED, _PLAN_S = 200, 5.0
_STRAIGHT = 1.25  # times what a straight line through the two smaller sizes gives
_HEAD = """\
# What many nodes cost the control machine

Measured in one run of `make bench-fleet` on {day}. Times come from one machine that may do other
work: read them as proportions. Memory is the peak of all processes together, without page cache.

| command | nodes | clock | processors | of these for each node | memory |
| --- | --- | --- | --- | --- | --- |
"""
_GOALS = """
| goal | is | met |
| --- | --- | --- |
"""
_METHOD = """
## How it is measured

- **{plan}**: `imgbuild fleet plan VERSION --json` of nodes that were asked in the last 15 minutes,
  the median of 5 runs. **{first}**: the same command before that, which asks them all.
- **{status}**: `imgbuild fleet status --json`. Here and above nodes are played: a connection plugin
  gives a recorded answer of the real `imgnode status --json`. So the control machine alone is
  measured: Ansible, its 32 workers, ansible-runner's events and imgbuild. Real nodes add their own
  time and the network's, for up to 32 of them at once.
- **{rollout}**: `imgbuild fleet rollout VERSION --soak 0 --waves 25%,100% --json` over folders that
  play nodes and run the real `imgnode` on this same machine: its processor time is counted, too.
- **Growth** compares the largest size with the straight line through the two before it.
"""


@dataclass(frozen=True)
class Goal:
    """A goal in words, what came out, and whether that is good enough."""

    text: str
    came: str
    met: bool


def page(figures: Sequence[Figure], versions: Mapping[str, str]) -> str:
    """Return the page in Markdown."""
    day = datetime.now(UTC).strftime("%Y-%m-%d")
    found = goals(figures)
    rows = [f"| {one.text} | {one.came} | {'yes' if one.met else '**no**'} |\n" for one in found]
    return "".join(
        [
            _HEAD.format(day=day),
            *map(_row, figures),
            *([_GOALS, *rows] if rows else []),
            _METHOD.format(plan=PLAN, first=FIRST_PLAN, status=STATUS, rollout=ROLLOUT),
            machine(versions),
        ]
    )


def goals(figures: Sequence[Figure]) -> list[Goal]:
    """Return the goals that these figures can tell of."""
    found = [
        Goal(
            f"a plan of {_PLANNED} nodes: ≤ {_PLAN_S:g} s",
            f"{one.wall_s:.1f} s",
            one.wall_s <= _PLAN_S,
        )
        for one in figures
        if (one.what, one.nodes) == (PLAN, _PLANNED)
    ]
    for what in (PLAN, STATUS):
        sizes = sorted((one for one in figures if one.what == what), key=lambda one: one.nodes)
        if len(sizes) >= 3:  # noqa: PLR2004 - a line and what is compared with it
            found += [_growth(what, sizes[0], sizes[-2], sizes[-1])]
    return found


def _growth(what: str, small: Figure, middle: Figure, large: Figure) -> Goal:
    slope = (middle.cpu_s - small.cpu_s) / (middle.nodes - small.nodes)
    line = middle.cpu_s + max(slope, 0.0) * (large.nodes - middle.nodes)
    ratio = large.cpu_s / line
    text = f"{what}, {large.nodes} nodes: ≤ {_STRAIGHT:g} of a straight line (processor time)"
    return Goal(text, f"{ratio:.2f}", ratio <= _STRAIGHT)


def _row(one: Figure) -> str:
    each = f"{1000 * one.cpu_s / one.nodes:.0f} ms"
    cells = [one.what, str(one.nodes), f"{one.wall_s:.1f} s", f"{one.cpu_s:.1f} s", each]
    return f"| {' | '.join(cells)} | {one.memory / 1e6:.0f} MB |\n"
