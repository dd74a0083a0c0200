"""A recorded life of a node: the writes of its disk, and which phase they belong to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tests.powercut.writelog import Entry, WriteLog


@dataclass
class Recording:
    """`log` is the machine's write log; `marks` say at which byte of it a phase begins."""

    log: Path
    marks: list[tuple[str, int]] = field(default_factory=list)

    @property
    def before(self) -> Path:
        """The disk as it was before the first write."""
        return self.log.with_suffix(".before")

    def mark(self, phase: str) -> None:
        """Say that a phase begins now; the one before ends."""
        self.marks.append((phase, self.log.stat().st_size))

    def phases(self, log: WriteLog) -> Mapping[str, range]:
        """Return the numbers of each phase's entries; what follows the last mark is of none."""
        ends = [log.index(at) for _, at in self.marks]
        names = [name for name, _ in self.marks]
        return {
            name: range(begin, end) for name, begin, end in zip(names, ends, ends[1:], strict=False)
        }


def decides(entry: Entry, disk_bytes: int, esp: tuple[int, int]) -> bool:
    """Tell whether a write changes what boots: a partition table, or the ESP (start, size)."""
    table = 1 << 20
    return (
        entry.touches(0, table) or entry.touches(disk_bytes - table, table) or entry.touches(*esp)
    )
