"""The forms that the state below /var/lib/imgnode has had, and how each comes from the one before.

A release that reads or writes state otherwise than the one before takes the next number here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Migration:
    """What makes this form out of the one before.

    `places` are files or folders below /var/lib/imgnode, and small: they are copied. `change` gets
    a folder that holds the copies under the same names, and changes those. There may be none, or
    damaged ones, or such as a newer version has written; it raises OSError or ValueError only for
    what must not be kept.
    """

    places: tuple[str, ...]
    change: Callable[[Path], None]


def _nothing(_: Path) -> None:
    """Begin: state that has no number is of the first form."""


FIRST = 1
TABLE: Mapping[int, Migration] = {FIRST: Migration((), _nothing)}
