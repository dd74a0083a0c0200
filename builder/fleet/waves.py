"""Which nodes come next: a canary, then shares; never too many of one model, or of two racks."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from builder.core.errors import UserError
from builder.fleet.job import Limits

_HUNDRED = 100


@dataclass(frozen=True)
class Candidate:
    """A node that waits: its rack, and the model that it serves now (empty: none)."""

    name: str
    rack: str
    model: str


def size(share: str, total: int) -> int:
    """Return how many nodes `12` or `25%` of `total` are; at least one. Raises UserError."""
    number = share.removesuffix("%")
    if not number.isascii() or not number.isdigit() or int(number) < 1:
        raise UserError(f"{share}: is no size of a wave", hint="such as 5 or 25%")
    if not share.endswith("%"):
        return int(number)
    if int(number) > _HUNDRED:
        raise UserError(f"{share}: is more than all", hint="at most 100%")
    return max(1, math.floor(total * int(number) / _HUNDRED))


def next_wave(
    index: int,
    waiting: Sequence[Candidate],
    serving: Mapping[str, AbstractSet[str]],
    limits: Limits,
    total: int,
) -> list[str]:
    """Return the names of wave `index` (0: the canary); none where all of them are held back.

    `serving` has the names of all nodes that serve a model, waiting or not.
    """
    room = 1 if index == 0 else size(limits.waves[min(index, len(limits.waves)) - 1], total)
    taken: Counter[str] = Counter()
    chosen: list[Candidate] = []
    for one in _canaries_first(index, waiting):
        if len(chosen) == room:
            break
        if limits.by_rack and chosen and one.rack != chosen[0].rack:
            continue
        there = serving.get(one.model, frozenset())
        if one.name in there:
            if len(there) - taken[one.model] - 1 < limits.min_replicas:
                continue
            taken[one.model] += 1
        chosen.append(one)
    return [one.name for one in chosen]


def _canaries_first(index: int, waiting: Sequence[Candidate]) -> Sequence[Candidate]:
    """Return the waiting nodes; for the canary those first that serve, and so prove something."""
    return sorted(waiting, key=lambda one: not one.model) if index == 0 else waiting


def all_waves(
    waiting: Sequence[Candidate], serving: Mapping[str, AbstractSet[str]], limits: Limits
) -> tuple[list[list[str]], list[str]]:
    """Return the waves as they come when nothing fails, and the nodes that are held back."""
    total, left = len(waiting), list(waiting)
    waves: list[list[str]] = []
    while left:
        wave = next_wave(len(waves), left, serving, limits, total)
        if not wave:
            break
        waves.append(wave)
        gone = set(wave)
        left = [one for one in left if one.name not in gone]
    return waves, [one.name for one in left]


def serving_by_model(candidates: Iterable[Candidate]) -> dict[str, set[str]]:
    """Return the names of the nodes that serve each model."""
    found: dict[str, set[str]] = {}
    for one in candidates:
        if one.model:
            found.setdefault(one.model, set()).add(one.name)
    return found
