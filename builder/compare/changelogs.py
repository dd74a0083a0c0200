"""What Debian's changelogs say of the versions between two images.

The packages come from the cache, by digest: an image has no documentation.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from debian.changelog import ChangeBlock
from debian.changelog import Changelog as DebianChangelog
from debian.debfile import DebError, DebFile
from debian.debian_support import Version

from builder.compare.images import packages_by_name
from builder.core.bootstrap import deb_file
from builder.core.hashing import sha256_file
from builder.model.artifacts import InstalledPackage, Manifest
from builder.model.difference import Changelog, ChangelogEntry

_CVE = re.compile(r"\bCVE-\d{4}-\d{4,}\b")
_NUMBER = re.compile(r"\d[\d.]*(?:-\d+)?")  # 6.1.0-41 of linux-image-6.1.0-41-amd64, 3 of libssl3
Pair = tuple[InstalledPackage, InstalledPackage]


def read_changelogs(
    old: Manifest, new: Manifest, cache: Path
) -> tuple[tuple[Changelog, ...], tuple[str, ...]]:
    """Return a changelog for each source whose version is another one, and what is lacking.

    `cache` is the cache folder. A package that it does not hold is told in a line.
    """
    found: dict[tuple[str, str, str], Changelog] = {}
    lacking = []
    for before, after in successors(old, new):
        back = Version(after.version) < Version(before.version)
        newer, older = (before, after) if back else (after, before)
        path = deb_file(cache, newer.sha256)
        if not path.is_file() or sha256_file(path) != newer.sha256:
            lacking.append(f"changelog of {newer.name} {newer.version}: not in the cache")
            continue
        source, entries = _between(cache, newer, older)
        key = (source, before.version, after.version)
        known = found.get(key)
        found[key] = Changelog(
            source=source,
            packages=(*(known.packages if known else ()), after.name),
            old=before.version,
            new=after.version,
            taken_back=back,
            entries=known.entries if known and known.entries else entries,
        )
    return tuple(sorted(found.values(), key=lambda one: one.source)), tuple(lacking)


def successors(old: Manifest, new: Manifest) -> Iterator[Pair]:
    """Yield the packages that changed their version, and those that changed their name with it.

    A kernel's package has its version in its name, as some libraries have: where exactly one
    such package went and exactly one came, the one follows the other.
    """
    before, after = packages_by_name(old), packages_by_name(new)
    for name in sorted(before.keys() & after.keys()):
        if before[name].version != after[name].version:
            yield before[name], after[name]
    gone = {name: _family(name) for name in sorted(before.keys() - after.keys())}
    came = {name: _family(name) for name in sorted(after.keys() - before.keys())}
    counts = [Counter(gone.values()), Counter(came.values())]
    for name, family in gone.items():
        if counts[0][family] == counts[1][family] == 1:
            follower = next(other for other, its in came.items() if its == family)
            yield before[name], after[follower]


def _family(name: str) -> str:
    return _NUMBER.sub("N", name)


def _between(
    cache: Path, newer: InstalledPackage, older: InstalledPackage
) -> tuple[str, tuple[ChangelogEntry, ...]]:
    """Return the source, and its changelog above the older version."""
    with DebFile(str(deb_file(cache, newer.sha256))) as package:
        source, _ = _source(package, newer)
        try:
            log = package.changelog()
        except DebError:
            log = None
    floor = _without_rebuild(older.version)
    if (path := deb_file(cache, older.sha256)).is_file():
        with DebFile(str(path)) as package:
            _, floor = _source(package, older)
    return source, tuple(_entries(log, Version(floor))) if log else ()


def _source(deb: DebFile, package: InstalledPackage) -> tuple[str, str]:
    """Return name and version of a package's source (deb-src-control(5), `lvm2 (2.03.16-2)`)."""
    name, _, version = deb.debcontrol().get("Source", package.name).partition(" (")
    return name, version.rstrip(")") or _without_rebuild(package.version)


def _without_rebuild(version: str) -> str:
    """Return the version of the source: a rebuild without changes adds +bN to the package's."""
    return re.sub(r"\+b\d+$", "", version)


def _entries(log: DebianChangelog, floor: Version) -> Iterator[ChangelogEntry]:
    for block in log:
        try:
            if Version(str(block.version)) <= floor:
                return
        except ValueError:
            return
        text = _text(block)
        yield ChangelogEntry(
            version=str(block.version),
            urgency=str(block.urgency or ""),
            date=str(block.date or ""),
            text=text,
            cves=tuple(sorted(set(_CVE.findall(text)))),
        )


def _text(block: ChangeBlock) -> str:
    lines = [line.rstrip() for line in block.changes()]
    return "\n".join(lines).strip("\n")
