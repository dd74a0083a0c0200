"""What the bench of flashing found, as a page."""

from __future__ import annotations

import os
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from bench.report import machine

DD, OURS = "dd", "imgbuild flash"
_HEAD = """\
# Flashing, beside bmaptool and dd

Measured in one run of `make bench-flash` on {day}: all ways by turns, medians of {rounds}
rounds, ranges in brackets. Times come from one machine: read them as proportions. When this
began, the load average was {load:.1f} on {cpus} processors{busy}.
"""
_BUSY = """: what needs a processor (reading an image, comparing, unpacking) waited for
one, which writes alone hardly need; on an idle machine the ways are closer together"""
_TABLE = """
## {title}

| way | from | whole command, s | of dd | writes, MB/s | of dd | processor s |
| --- | --- | --- | --- | --- | --- | --- |
"""
_METHOD = """
## How it is measured

- **dd** writes the allocated bytes alone, which lie in one file without holes: `bs=4M oflag=direct
  conv=fsync`. It knows neither holes nor checksums. **dd, then cmp** reads them back, too.
- **image** is `disk.raw` and its block map, **release** `disk.raw.zst`, which is unpacked on the
  way.
- **imgbuild flash** clears what the map does not name, writes, and reads all back from the disk
  itself, where it is compared with the map's SHA-256. It keeps two writes under way, dd one.
  `--no-verify` does not read back: it compares while it writes, which on two processors costs more
  than a disk as fast as memory takes.
- **bmaptool copy** compares, too; it clears nothing and reads nothing back.
- **The disk** is a loop device (`--direct-io=on`) over a file of which every block has been written
  before. The source lies in the page cache. After a first round, which is not counted, the disk is
  compared with the map.
- **whole command**: its start (half a second of Python), checks, clearing and reading back, too.
  **writes**: allocated bytes for each second in which they are written and flushed, as `imgbuild
  flash` says itself; of other ways the whole command. Wanted: `imgbuild flash` of an image at
  least 0.9 of dd.
- **of dd** is the median of the ratios within each round.
"""


@dataclass(frozen=True)
class Figure:
    """One way: seconds of each round; bytes a second while it writes; how both are to dd's."""

    name: str
    source: str
    seconds: Sequence[float]
    of_dd: float
    write_rate: float
    write_of_dd: float
    cpu_seconds: float


def page(found: Mapping[str, Sequence[Figure]], load: float, versions: Mapping[str, str]) -> str:
    """Return the page in Markdown; `found` has the figures of each image by its title.

    `load` is what ran on the machine before (getloadavg(3)).
    """
    day = datetime.now(UTC).strftime("%Y-%m-%d")
    rounds = len(next(iter(found.values()))[0].seconds)
    cpus = os.cpu_count() or 1
    busy = _BUSY if load > 1 else ""
    parts = [_HEAD.format(day=day, rounds=rounds, load=load, cpus=cpus, busy=busy)]
    for title, figures in found.items():
        parts += [_TABLE.format(title=title), *(_row(one) for one in figures)]
    return "".join([*parts, _METHOD, machine(versions)])


def _row(one: Figure) -> str:
    low, high = min(one.seconds), max(one.seconds)
    cells = [
        one.name,
        one.source,
        f"{statistics.median(one.seconds):.2f} ({low:.2f} to {high:.2f})",
        f"{one.of_dd:.2f}",
        f"{one.write_rate / 1e6:,.0f}",
        f"{one.write_of_dd:.2f}",
        f"{one.cpu_seconds:.1f}",
    ]
    return f"| {' | '.join(cells)} |\n"
