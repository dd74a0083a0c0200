"""Holds an archive to the packages that it may give (`only` of a site's archive).

Twice: what it may not give is taken out of the verified package lists before APT resolves,
and every package of a lock is held against its archive again.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from builder.core.errors import UserError
from builder.lock.indexes import Index
from builder.model.lock import LockedPackage
from builder.model.site import Site

_NAME = re.compile(r"^Package: *(\S+)", re.MULTILINE)
_MISSED = re.compile(
    r"(?:Depends: |[Uu]nable to locate package |Package \'?)([a-z0-9][a-z0-9+.-]+)"
)


@dataclass(frozen=True)
class Hidden:
    """The names of the packages that were taken out, each with the archive that has it."""

    names: dict[str, str]

    def explained(self, error: UserError) -> UserError:
        """Return APT's complaint; where it misses what was taken out, with what to do."""
        missed = [name for name in _MISSED.findall(error.what) if name in self.names]
        if not missed:
            return error
        facts = [
            f"    {name}: {self.names[name]} has it, but its `only` does not name it"
            for name in dict.fromkeys(missed)
        ]
        return UserError(
            "\n".join([error.what, *facts]),
            hint="add it to `only` of that archive if it is meant to come from there",
        )


def check_addresses(site: Site, bases: Sequence[str]) -> None:
    """Raise UserError where an archive with `only` could pass a file off as another archive's."""
    for index, (archive, base) in enumerate(zip(site.archives, bases, strict=True)):
        others = [*bases[:index], *bases[index + 1 :]]
        inside = [other for other in others if f"{other}/".startswith(f"{base}/")]
        if archive.only and inside:
            raise UserError(
                f"archives: {archive.uri} has `only`, but {inside[0]} lies at or below it",
                hint="give each archive an address of its own, neither inside the other",
            )


def hide_others(site: Site, bases: Sequence[str], indexes: Iterable[Index]) -> Hidden:
    """Take every package that an archive may not give out of its lists."""
    names: dict[str, str] = {}
    patterns = {base: archive.only for archive, base in zip(site.archives, bases, strict=True)}
    for index in indexes:
        if patterns[index.base] and index.packages.is_file():
            gone = _keep(index.packages, patterns[index.base])
            names |= dict.fromkeys(gone, index.base)
    return Hidden(names)


def check_only(site: Site, packages: Iterable[LockedPackage]) -> None:
    """Raise UserError for a package that comes from an archive which may not give it."""
    for package in packages:
        archive = site.archives[package.archive]
        if not _allowed(package.name, archive.only):
            raise UserError(
                f"{package.name} {package.version} comes from {archive.uri}, "
                "whose `only` does not name it",
                hint="add it to `only` of that archive if it is meant to come from there",
            )


def _allowed(name: str, patterns: Sequence[str]) -> bool:
    return not patterns or any(fnmatchcase(name, pattern) for pattern in patterns)


def _keep(path: Path, patterns: Sequence[str]) -> set[str]:
    """Leave only the stanzas of fitting packages in a list; return the names of the others."""
    kept, gone = [], set()
    for stanza in re.split(r"\n\s*\n", path.read_text()):
        match = _NAME.search(stanza)
        if match and _allowed(match[1], patterns):
            kept.append(stanza.strip("\n") + "\n")
        elif match:
            gone.add(match[1])
    path.write_text("\n".join(kept))
    return gone
