"""Judges every cut of a recording, and tells how many points of which phase lost what."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from builder.core.files import copy_sparse, remove_tree
from builder.core.process import Runner
from builder.vm.gpt import partitions
from tests.powercut.cuts import Cut, choose
from tests.powercut.judge import Judge, Release, Verdict
from tests.powercut.recording import Recording, decides
from tests.powercut.replay import Region, Replay
from tests.powercut.writelog import WriteLog

_WEIGHTS = {"write": 3, "boot": 2, "bless": 2}  # where entries, slots and tables change


@dataclass(frozen=True)
class Row:
    """One cut and what it left."""

    cut: Cut
    verdict: Verdict


@dataclass(frozen=True)
class Matrix:
    """A recording with the cuts that a seed chose; `layers` are digests of layer files by name."""

    runner: Runner
    recording: Recording
    releases: Sequence[Release]
    layers: Mapping[str, str]
    work: Path

    def cuts(self, points: int, seed: int) -> list[Cut]:
        """Return about as many cuts as `points`, at least one for each phase."""
        log = WriteLog(self.recording.log)
        phases = self.recording.phases(log)
        weights = {phase: _WEIGHTS.get(phase.split()[0], 1) for phase in phases}
        total = sum(weights.values())
        wanted = {phase: max(1, round(points * weights[phase] / total)) for phase in phases}
        before = self.recording.before
        esp = next(one for one in partitions(self.runner, before) if one.name == "esp")
        size, place = before.stat().st_size, (esp.offset, esp.size)
        return choose(log.entries, phases, wanted, lambda one: decides(one, size, place), seed)

    def judge(self, cuts: Sequence[Cut]) -> list[Row]:
        """Return the verdict on each cut."""
        with self._replay() as replay:
            judge = Judge(self.runner, replay, self.releases, self.layers, self.work)
            rows = []
            for cut in cuts:
                with replay.cut(cut) as disk:
                    rows.append(Row(cut, judge.judge(disk)))
            return rows

    def disks(self, rows: Sequence[Row]) -> Iterator[tuple[Row, Path]]:
        """Yield the disk of each row, one after the other; it is to be left as it is."""
        with self._replay() as replay:
            for row in rows:
                with replay.cut(row.cut) as disk:
                    yield row, disk

    @contextmanager
    def _replay(self) -> Iterator[Replay]:
        remove_tree(self.work)
        self.work.mkdir(parents=True)
        disk = self.work / "disk.raw"
        try:
            copy_sparse(self.runner, self.recording.before, disk)
            places = [Region(one.offset, one.size) for one in partitions(self.runner, disk)]
            yield Replay(WriteLog(self.recording.log), disk, places)
        finally:
            remove_tree(self.work)


def table(rows: Sequence[Row], began: float) -> list[str]:
    """Return the lines that are told: points and losses by phase, and what was lost."""
    phases = dict.fromkeys(row.cut.phase for row in rows)
    lines = [f"{'phase':<14} points  losses  boots"]
    for phase in phases:
        mine = [row for row in rows if row.cut.phase == phase]
        count = sum(bool(row.verdict.losses) for row in mine)
        boots = sorted({row.verdict.boots or "nothing" for row in mine})
        lines.append(f"{phase:<14} {len(mine):>6}  {count:>6}  {', '.join(boots)}")
    lost = [row for row in rows if row.verdict.losses]
    lines.append(f"{len(rows)} points, {len(lost)} losses, {time.monotonic() - began:.0f} s")
    return [*lines, *(f"{row.cut}: {'; '.join(row.verdict.losses)}" for row in lost)]
