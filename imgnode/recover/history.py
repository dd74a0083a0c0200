"""What recovery did, one line of JSON for each event; the newest are kept."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from imgnode.files import write_atomic
from imgnode.recover.state import FOLDER

FILE = FOLDER / "history.jsonl"
_MOST_BYTES = 256 * 1024


def add(event: dict[str, Any], root: Path = Path("/")) -> None:
    """Append one event, flushed to the disk. Raises OSError."""
    path = root / FILE
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists() and path.stat().st_size > _MOST_BYTES:
        half = path.read_bytes()[-_MOST_BYTES // 2 :]
        write_atomic(path, half[half.find(b"\n") + 1 :])
    with path.open("a") as stream:
        torn = "" if _ends_well(path) else "\n"
        stream.write(f"{torn}{json.dumps(event)}\n")
        stream.flush()
        os.fsync(stream.fileno())


def _ends_well(path: Path) -> bool:
    """Tell whether the last line is whole: a power cut may have torn it."""
    data = path.read_bytes()
    return not data or data.endswith(b"\n")


def read(root: Path = Path("/")) -> list[dict[str, Any]]:
    """Return the events, oldest first; lines that a power cut has torn are left out."""
    try:
        lines = (root / FILE).read_text(errors="replace").splitlines()
    except OSError:
        return []
    return list(_parsed(lines))


def _parsed(lines: Iterable[str]) -> Iterable[dict[str, Any]]:
    for line in lines:
        try:
            event = json.loads(line)
        except ValueError:
            continue
        if isinstance(event, dict):
            yield event
