"""The order of versions, as systemd sorts them (UAPI.10, Version Format Specification)."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable

_PARTS = re.compile(r"([~^.-])|([0-9]+)|([A-Za-z]+)")
# What stands at a place decides first: `~` sorts even before the end, letters before numbers.
_RANKS = {"~": 0, "": 1, "-": 2, "^": 3, ".": 4}
_LETTERS, _NUMBER = 5, 6
Key = tuple[tuple[int, int, str], ...]


@functools.cache
def version_key(version: str) -> Key:
    """Return what versions are sorted by; characters that the specification ignores part words."""
    keys = []
    for separator, number, letters in _PARTS.findall(version):
        if separator:
            keys.append((_RANKS[separator], 0, ""))
        elif number:
            keys.append((_NUMBER, int(number), ""))
        else:
            keys.append((_LETTERS, 0, letters))
    return (*keys, (_RANKS[""], 0, ""))


def is_older(version: str, than: str) -> bool:
    """Tell whether one version sorts before another."""
    return version_key(version) < version_key(than)


def newest_first(versions: Iterable[str]) -> list[str]:
    """Return versions sorted, the newest one first."""
    return sorted(versions, key=version_key, reverse=True)
