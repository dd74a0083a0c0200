"""`imgbuild report`: one page that tells of an image what numbers and pictures can."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from builder.model.artifacts import Manifest
from builder.model.difference import Difference, Part
from builder.model.inventory import Inventory
from builder.model.timeline import Timeline
from builder.report.bill import BillSummary
from builder.report.junit import Results
from builder.report.page import render
from builder.report.treemap import Block, Tile, treemap

_HUES = 8  # colours of the page
_TOP = 15


@dataclass(frozen=True)
class Known:
    """Everything that a report may show; what is None is said to be unknown."""

    manifest: Manifest
    parts: Sequence[Part]
    inventory: Inventory | None = None
    build: Timeline | None = None
    boot: Timeline | None = None
    units: Timeline | None = None
    bill: BillSummary | None = None
    difference: Difference | None = None
    notes: Sequence[str] = field(default_factory=tuple)
    tests: Results | None = None


def report_page(known: Known) -> str:
    """Return the page."""
    manifest = known.manifest
    tiles = treemap(blocks(known))
    by_package = known.inventory.bytes_by_package() if known.inventory else {}
    largest = sorted(by_package.items(), key=lambda pair: (-pair[1], pair[0]))[:_TOP]
    logs = known.difference.changelogs if known.difference else ()
    cves = {cve for log in logs for cve in log.cves}
    return render(
        "report.html.j2",
        title=f"{manifest.image_id} {manifest.version}",
        known=known,
        manifest=manifest,
        day=datetime.fromtimestamp(manifest.epoch, UTC).strftime("%Y-%m-%d"),
        whole=sum(part.bytes for part in known.parts),
        tiles=tiles,
        groups=_groups(tiles),
        largest=largest,
        root_bytes=sum(by_package.values()),
        cves=sorted(cves),
        hues=_HUES,
    )


def blocks(known: Known) -> list[Block]:
    """Return what the treemap shows: bytes of files as a node stores them.

    The root is one compressed file: what its packages take of it is estimated by their share
    of the unpacked bytes.
    """
    found = []
    for part in known.parts:
        if part.kind == "root" and known.inventory and part.title == "file system":
            found += _of_root(part, known.inventory)
        elif part.kind == "layer":
            found.append(Block("container", part.title, part.bytes))
        else:
            group = {"root": "root", "uki": "kernel, initrd", "model": "models"}[part.kind]
            found.append(Block(group, part.title, part.bytes))
    return found


def _of_root(part: Part, inventory: Inventory) -> list[Block]:
    unpacked = inventory.bytes_by_package()
    whole = sum(unpacked.values()) or 1
    return [
        Block("root", name or "of no package", part.bytes * count // whole)
        for name, count in sorted(unpacked.items())
    ]


def _groups(tiles: Sequence[Tile]) -> list[tuple[str, int, int]]:
    """Return name, colour and bytes of each group, in the order of the colours."""
    sums: dict[tuple[str, int], int] = {}
    for tile in tiles:
        sums[tile.group, tile.hue] = sums.get((tile.group, tile.hue), 0) + tile.bytes
    return [(name, hue, count) for (name, hue), count in sums.items()]
