"""The package lists that APT has fetched and verified, and the Release files they hang from."""

from __future__ import annotations

import re
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from pathlib import Path

from builder.core.errors import UserError
from builder.lock.aptenv import AptEnv
from builder.model.site import FLAT

_FORMAT = "$(REPO_URI) $(RELEASE) $(METAKEY) $(FILENAME)"


@dataclass(frozen=True)
class Index:
    """One package list: the base address of its archive, its suite, and both files."""

    base: str
    suite: str
    packages: Path
    release: Path


def list_indexes(apt: AptEnv) -> list[Index]:
    """Return every package list of an updated APT (apt-get(8), indextargets)."""
    told = apt.run("apt-get", "indextargets", "--format", _FORMAT, "Created-By: Packages")
    return [_index(line) for line in told.stdout.splitlines()]


def _index(line: str) -> Index:
    base, suite, key, name = line.split(" ", 3)  # a flat archive has an empty suite
    stem = name.removesuffix(key.replace("/", "_"))
    signed = Path(f"{stem}InRelease")
    release = signed if signed.exists() else Path(f"{stem}Release")
    return Index(base.rstrip("/"), suite or FLAT, Path(name), release)


def release_path(suite: str) -> str:
    """Return where an archive has the signed Release file of a suite, below its address."""
    return "InRelease" if suite == FLAT else f"dists/{suite}/InRelease"


def release_date(text: str) -> int:
    """Return the Date of a Release or InRelease file, in seconds since 1970."""
    match = re.search(r"^Date: (.+)$", text, re.MULTILINE)
    if match is None:
        raise UserError("the archive's Release file has no Date", hint="the mirror is damaged")
    try:
        return int(parsedate_to_datetime(match[1]).timestamp())
    except ValueError:
        raise UserError(
            f"the archive's Release file has no date but {match[1]!r}", hint="the mirror is damaged"
        ) from None
