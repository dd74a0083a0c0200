"""`imgbuild diff`: what is different between two images, and what an update moves."""

from __future__ import annotations

from pathlib import Path

import click

from builder.cli.tables import percent, show, size, table
from builder.compare.images import Difference, PackageChange, compare
from builder.compare.manifest import read_manifest

_KINDS = {"root": "root image", "uki": "kernel and initrd (UKI)"}
_KINDS |= {"layer": "container layers", "model": "models"}
_SHORT = 19  # characters of a digest: enough to tell two apart
_LONG = 40


@click.command("diff")
@click.argument("old", type=click.Path(path_type=Path))
@click.argument("new", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="for machines")
def command(old: Path, new: Path, as_json: bool) -> None:
    """Show what is different between two images, and what an update from OLD to NEW moves.

    OLD and NEW are folders that imgbuild build made, or their manifest.json.
    """
    found = compare(read_manifest(old), read_manifest(new))
    if as_json:
        print(found.model_dump_json(indent=1))
        return
    _facts(found)
    _packages(found)
    _files(found)
    _update(found)


def _facts(found: Difference) -> None:
    rows = table("", "OLD", "NEW")
    for fact in found.facts:
        same = fact.old == fact.new
        rows.add_row(fact.name, _brief(fact.old), "same" if same else _brief(fact.new))
    show(rows)


def _brief(text: str | None) -> str:
    """Return a value with a long digest cut short; the JSON has it whole."""
    if text is None:
        return "none"
    head, at, digest = text.rpartition("@sha256:")
    if at:
        return f"{head}@{digest[:12]}…"
    return f"{text[:_SHORT]}…" if len(text) > _LONG else text


def _packages(found: Difference) -> None:
    new = sum(one.old is None for one in found.packages)
    gone = sum(one.new is None for one in found.packages)
    changed = len(found.packages) - new - gone
    print(
        f"\npackages: {changed} changed, {new} new, {gone} gone, {found.packages_same} as they were"
    )
    if not found.packages:
        return
    rows = table("PACKAGE", "OLD", "", "NEW")
    for one in found.packages:
        rows.add_row(one.name, one.old or "none", "→", _becomes(one))
    show(rows)


def _becomes(one: PackageChange) -> str:
    return f"{one.new} (another file)" if one.rebuilt else one.new or "none"


def _files(found: Difference) -> None:
    if not found.files:
        return
    print("\nlayers and models:")
    rows = table("FATE", "KIND", "HOLDS", "FILE", right=("FILE",))
    for one in found.files:
        rows.add_row(one.fate, one.part.kind, one.part.title, size(one.part.bytes))
    show(rows)


def _update(found: Difference) -> None:
    print("\nan update moves:")
    rows = table("", "MOVED", "WHOLE", "SHARE", right=("MOVED", "WHOLE", "SHARE"))
    for one in found.update:
        rows.add_row(_KINDS[one.kind], size(one.bytes), size(one.of), percent(one.bytes, one.of))
    moved, full = found.update_bytes, found.full_bytes
    rows.add_row("sum", size(moved), size(full), percent(moved, full))
    show(rows)
