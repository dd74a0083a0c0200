"""The results as a page."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from bench.report import machine
from bench.updates.cases import CASES
from bench.updates.ways import Cost, Row

_MEMORY = 1.5  # of the root image
_SHOWN = 12
_HEAD = """\
# What an update costs a node

Real package changes, measured in one run of `make bench-update` on {day}: our patches, a full
download, and casync. Times come from one machine that may do other work: read them as proportions.

| what changed | way | to download | of the full image | seconds | processor s | memory |
| --- | --- | --- | --- | --- | --- | --- |
"""
_GOALS = """
| goal ("it": the full image) | is | met |
| --- | --- | --- |
"""
_METHOD = """
## How it is measured

- **The full image** is `root.erofs.zst`, `root.verity.zst`, `uki.efi.zst` and all layer files.
- **patches** and **full** are the node's own code (`imgnode update stage`) in a folder of the host:
  it reads the signed channel, fetches what it needs from a web server on the loopback interface,
  checks, patches or unpacks, and works out the hash tree. "full" is a node whose version no patch
  starts from, with an empty layer store. All bytes count: channel, sums and manifests, too.
- **casync** is Debian's {casync} with its defaults (chunks of 64 KiB on average, zstd): `casync
  extract` of the new root, UKI and layer files from a chunk store on the same web server, the old
  ones as seeds. Our code then works out the hash tree. No signature is checked.
- **The container** is a stand-in: transformers 5.23.0, then 5.24.0, over its libraries and Python.
  vLLM itself is larger and takes ten minutes to build.
- **Memory** is the peak of anonymous memory of all processes, without page cache, and its share of
  the root image, unpacked.
- Where packages differ, the old version has those of bookworm's last point release and is locked a
  week earlier (SOURCE_DATE_EPOCH); all else is equal. Writing the other slot is not measured: it
  is the same for all ways.
"""


@dataclass(frozen=True)
class Goal:
    """A goal in words, what came out, and whether that is good enough."""

    text: str
    came: str
    met: bool


def page(rows: Sequence[Row], versions: Mapping[str, str]) -> str:
    """Return the page in Markdown."""
    day = datetime.now(UTC).strftime("%Y-%m-%d")
    return "".join(
        [
            _HEAD.format(day=day),
            *(line for row in rows for line in _lines(row)),
            _absent(rows),
            _GOALS,
            *(_goal(goal) for goal in goals(rows)),
            "\n## What changed\n\n",
            *(_what(row) for row in rows),
            _METHOD.format(casync=versions["casync"]),
            machine(versions),
        ]
    )


def goals(rows: Sequence[Row]) -> Iterator[Goal]:
    """Yield each goal and what came out."""
    for row in rows:
        name, share = row.pair.case.name, row.ours.bytes / row.whole
        if (goal := row.pair.case.goal) is not None:
            yield Goal(f"{name}: ≤ {100 * goal:g} % of it", _percent(share), share <= goal)
        if new := row.new_layers:
            moved = row.ours.layers
            text = f"{_megabytes(moved)} of layers, {_megabytes(new)} new"
            yield Goal(f"{name}: only new layers", text, moved == new)
    most = max(row.ours.memory / row.root_bytes for row in rows)
    yield Goal(f"memory: ≤ {_MEMORY:g} of the root image", f"{most:.2f}", most <= _MEMORY)


def _absent(rows: Sequence[Row]) -> str:
    """Return which cases were left out of this run; empty when none was."""
    there = [row.pair.case for row in rows]
    names = [case.name for case in CASES.values() if case not in there]
    return f"\nNot measured in this run: {', '.join(names)}.\n" if names else ""


def _goal(goal: Goal) -> str:
    return f"| {goal.text} | {goal.came} | {'yes' if goal.met else '**no**'} |\n"


def _lines(row: Row) -> Iterator[str]:
    name = f"{row.pair.case.name} ({row.pair.case.profile})"
    for way, cost in (("patches", row.ours), ("full", row.full), ("casync", row.casync)):
        yield f"| {name if way == 'patches' else ''} | {way} | {_cells(cost, row)} |\n"


def _cells(cost: Cost, row: Row) -> str:
    share = cost.memory / row.root_bytes
    cells = [
        _megabytes(cost.bytes),
        _percent(cost.bytes / row.whole),
        f"{cost.seconds:.1f}",
        f"{cost.cpu_seconds:.1f}",
        f"{cost.memory / 1e6:.0f} MB ({share:.2f})",
    ]
    return " | ".join(cells)


def _what(row: Row) -> str:
    case, changed = row.pair.case, row.pair.changed
    told = [f"`{edit.file}`" for edit in case.edits] + changed[:_SHOWN]
    if len(changed) > _SHOWN:
        told.append(f"and {len(changed) - _SHOWN} packages more")
    root, whole = row.root_bytes / 1e6, row.whole / 1e6
    return (
        f"- **{case.name}** (root {root:.0f} MB, full image {whole:.1f} MB): {', '.join(told)}.\n"
    )


def _megabytes(count: int) -> str:
    return f"{count / 1e6:.2f} MB" if count < 1e7 else f"{count / 1e6:.1f} MB"  # noqa: PLR2004


def _percent(share: float) -> str:
    return f"{100 * share:.2f} %" if share < 0.1 else f"{100 * share:.1f} %"  # noqa: PLR2004
