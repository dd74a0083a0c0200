"""Chooses where the power goes, and what a drive's cache keeps then. Seeded: the same every time.

What was written before the last flush is on the disk. Each later write may be there or not,
whole or in part, in any order: that is all that a drive with a volatile cache promises.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from tests.powercut.writelog import SECTOR, Entry

Fate = Literal["all", "none", "some", "torn"]
_FATES: tuple[Fate, ...] = ("all", "none", "some", "torn", "torn")
_RUNS = 8  # a write that is torn falls into at most so many pieces


@dataclass(frozen=True)
class Cut:
    """The power goes when `index` entries of the log were issued.

    `fate` is what becomes of the writes that no flush has followed: all of them are kept (QEMU
    was killed), none, some, or some and others by some of their sectors. `seed` says which.
    """

    phase: str
    index: int
    fate: Fate
    seed: int


@dataclass(frozen=True)
class Piece:
    """What is kept of an entry: `size` bytes from byte `offset` of it on."""

    entry: Entry
    offset: int
    size: int

    @property
    def start(self) -> int:
        """Where it lies on the disk, in bytes."""
        return self.entry.start + self.offset


def choose(
    entries: Sequence[Entry],
    phases: Mapping[str, range],
    wanted: Mapping[str, int],
    decisive: Callable[[Entry], bool],
    seed: int,
) -> list[Cut]:
    """Return `wanted` cuts for each phase, in the order of the log.

    Every second one lies right after a `decisive` write or after one of the next three entries,
    where there are such writes; the others anywhere in the phase.
    """
    found = []
    for phase, span in phases.items():
        dice = _dice(f"{seed} {phase}")
        hot = sorted(
            {
                after
                for number in span
                if decisive(entries[number])
                for after in range(number + 1, min(number + 5, span.stop + 1))
            }
        )
        for turn in range(wanted.get(phase, 0) if span else 0):
            index = dice.choice(hot) if hot and turn % 2 else dice.randint(span.start, span.stop)
            fate = _FATES[turn // 2 % len(_FATES)]
            found.append(Cut(phase, index, fate, dice.getrandbits(32)))
    return sorted(found, key=lambda cut: (cut.index, cut.seed))


def _dice(seed: int | str) -> random.Random:
    return random.Random(seed)  # noqa: S311 - the same for the same seed, that is the point


def last_flush(entries: Sequence[Entry], index: int) -> int:
    """Return how many of the first `index` entries a flush has made safe."""
    return next((i + 1 for i in range(index - 1, -1, -1) if entries[i].flush), 0)


def survivors(cut: Cut, entries: Sequence[Entry]) -> Iterator[Piece]:
    """Yield what is kept of the entries that no flush has followed, in the order of the log.

    A kept write below a later one that was dropped gives the older content: so orders are mixed.
    """
    dice = _dice(cut.seed)
    for entry in entries[last_flush(entries, cut.index) : cut.index]:
        if not entry.size or cut.fate == "none":
            continue
        lot = 1.0 if cut.fate == "all" else dice.random()
        if lot >= (0.67 if cut.fate == "torn" else 0.5):
            yield Piece(entry, 0, entry.size)
        elif cut.fate == "torn" and lot >= 0.33:
            yield from _torn(entry, dice)


def _torn(entry: Entry, dice: random.Random) -> Iterator[Piece]:
    """Yield every second run of sectors, the runs as long as the dice say."""
    sectors = entry.size // SECTOR
    places = sorted(dice.sample(range(sectors + 1), min(_RUNS, sectors + 1)))
    bounds = [0, *places, sectors]
    first = dice.randrange(2)
    for begin, end in list(itertools.pairwise(bounds))[first::2]:
        if begin < end:
            yield Piece(entry, begin * SECTOR, (end - begin) * SECTOR)
