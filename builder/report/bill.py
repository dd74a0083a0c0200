"""Counts what a bill of materials (CycloneDX, JSON) says, for people."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from builder.core.errors import UserError

_TITLES = {
    "library": "packages and wheels",
    "device-driver": "kernel modules",
    "file": "container layers",
    "firmware": "firmware files",
    "container": "containers",
    "machine-learning-model": "models",
    "application": "programs of our own",
}
_MOST = 12


@dataclass(frozen=True)
class BillSummary:
    """How many things of each kind there are, and the licences that most of them state."""

    kinds: tuple[tuple[str, int], ...]
    licences: tuple[tuple[str, int], ...]
    stated: int
    unstated: int


def read_summary(path: Path) -> BillSummary | None:
    """Return the summary of a bill; None where there is none. Raises UserError for a bad one."""
    if not path.is_file():
        return None
    try:
        components = json.loads(path.read_text())["components"]
        return _summary(components)
    except (ValueError, KeyError, TypeError, OSError):
        hint = "imgbuild sbom writes it anew"
        raise UserError(f"{path}: is no bill of materials", hint=hint) from None


def _summary(components: list[dict[str, Any]]) -> BillSummary:
    kinds = Counter(_TITLES.get(one["type"], one["type"]) for one in components)
    licensed = [one for one in components if one["type"] == "library"]
    texts = [one["licenses"][0]["expression"] for one in licensed if one.get("licenses")]
    return BillSummary(
        kinds=tuple(kinds.most_common()),
        licences=tuple(Counter(texts).most_common(_MOST)),
        stated=len(texts),
        unstated=len(licensed) - len(texts),
    )
