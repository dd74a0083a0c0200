"""How `imgbuild diff` looks in a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from rich.filesize import decimal

from builder.cli.tables import percent, show, size, table
from builder.model.difference import Change, Changelog, Contents, Difference, PackageChange

_KINDS = {"root": "root image", "uki": "kernel and initrd (UKI)"}
_KINDS |= {"layer": "container layers", "model": "models"}
_SHORT = 19  # characters of a digest: enough to tell two apart
_LONG = 40
_FIRST = 20  # lines of a list without --all
_EXCERPT = 6  # lines of a changelog without --all
T = TypeVar("T")


def print_difference(found: Difference, *, everything: bool) -> None:
    """Print a difference; without `everything` long lists are cut, and say so."""
    limit = None if everything else _FIRST
    _facts(found)
    _packages(found)
    for log in found.changelogs:
        _changelog(log, None if everything else _EXCERPT)
    if found.contents:
        _contents(found.contents, limit)
    _changes("kernel options", found.kernel or (), limit)
    _files(found)
    _update(found)
    for line in found.not_told:
        print(f"not compared: {line}")


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


def _changelog(log: Changelog, excerpt: int | None) -> None:
    back = ", taken back" if log.taken_back else ""
    print(f"\nchangelog of {log.source}, {log.old} → {log.new}{back}:")
    if log.cves:
        named, more = _cut(log.cves, None if excerpt is None else _FIRST)
        print(f"  names {', '.join(named)}{f' and {more} more' if more else ''}")
    lines = []
    for entry in log.entries:
        lines += [f"  {entry.version} ({entry.urgency})", *entry.text.splitlines()]
    shown, more = _cut([line for line in lines if line.strip()], excerpt)
    for line in shown:
        print(f"  {line}")
    _more(more)


def _contents(inside: Contents, limit: int | None) -> None:
    _changes("setuid, setgid, capabilities", inside.privileged, limit)
    _changes("ports", inside.ports, limit)
    _changes("users", inside.users, limit)
    _changes("groups", inside.groups, limit)
    _changes("units", inside.units, limit)
    if inside.sizes:
        print("\nsizes in the root:")
        rows = table("PACKAGE", "OLD", "NEW", "CHANGE", right=("OLD", "NEW", "CHANGE"))
        shown, more = _cut(inside.sizes, limit)
        for one in shown:
            name = one.package or "(of no package)"
            sign = "+" if one.new > one.old else "-"
            change = f"{sign}{decimal(abs(one.new - one.old))}"
            rows.add_row(name, size(one.old), size(one.new), change)
        show(rows)
        _more(more)
    print(f"\nfiles: {len(inside.files)} differ, {inside.files_same} as they were")
    shown_files, more = _cut(inside.files, limit)
    if shown_files:
        rows = table("PATH", "OLD", "", "NEW", "PACKAGE")
        for file in shown_files:
            old, new = file.old or "none", file.new or "none"
            rows.add_row(f"/{file.path}", old, "→", new, file.package or "")
        show(rows)
    _more(more)


def _changes(title: str, some: Sequence[Change], limit: int | None) -> None:
    if not some:
        return
    print(f"\n{title}: {len(some)} differ")
    rows = table("NAME", "OLD", "", "NEW")
    shown, more = _cut(some, limit)
    for one in shown:
        rows.add_row(one.name, one.old or "none", "→", one.new or "none")
    show(rows)
    _more(more)


def _cut(some: Sequence[T], limit: int | None) -> tuple[Sequence[T], int]:
    """Return the first ones, and how many are left out."""
    shown = some if limit is None else some[:limit]
    return shown, len(some) - len(shown)


def _more(count: int) -> None:
    if count:
        print(f"  … {count} more (--all, --json or --html show them)")


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
