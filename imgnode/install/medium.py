"""The stick that the installer was started from: it carries the order, and may carry the release.

`imgbuild flash --installer` makes it. What is on it is believed no more than what a server
sends.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from imgnode import process
from imgnode.install.why import ORDER
from imgnode.update.refused import Refused

LABEL = "imgbuild-release"  # of its partition
ORDER_FILE, RELEASES = "order.json", "releases"
POINT = Path("run/imgnode/medium")
_COMMAND_S = 60
_APPEARS_S = 30.0  # a stick may take its time
_EVERY_S = 1.0


def attach(root: Path = Path("/")) -> Path:
    """Mount the medium and return its folder. Raises Refused when there is none, or two."""
    point = root / POINT
    point.mkdir(parents=True, exist_ok=True)
    process.run(["umount", str(point)], timeout_s=_COMMAND_S)  # it may have been pulled out
    found = _appearing()
    if len(found) != 1:
        there = ", ".join(found) or "no disk has a partition of that name"
        fact = f"there is not one medium with a partition {LABEL}: {there}"
        raise Refused(ORDER, fact, "imgbuild flash --installer makes a stick that has it")
    done = process.run(["mount", "-o", "ro", found[0], str(point)], timeout_s=_COMMAND_S)
    if done.rc:
        fact = f"{found[0]}: cannot be mounted: {' '.join(done.stderr.split())}"
        raise Refused(ORDER, fact, "make the stick anew, or take another")
    return point


def _appearing() -> list[str]:
    until = time.monotonic() + _APPEARS_S
    while not (found := _partitions()) and time.monotonic() < until:
        time.sleep(_EVERY_S)
    return found


def _partitions() -> list[str]:
    argv = ["lsblk", "--json", "--output", "PATH,PARTLABEL"]
    told = process.run(argv, timeout_s=_COMMAND_S)
    if told.rc:
        return []
    rows = json.loads(told.stdout)["blockdevices"]
    return [row["path"] for row in _all(rows) if row["partlabel"] == LABEL]


def _all(rows: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for row in rows:
        yield row
        yield from _all(row.get("children", []))
