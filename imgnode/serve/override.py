"""What `imgnode model set` laid over the seed's config, until the seed itself changes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from imgnode.files import write_atomic
from imgnode.serve.choice import STATE, Settings, digest
from imgnode.serve.facts import read_json

_FILE = STATE / "override.json"
_MAPS = ("extra_args", "env")  # merged entry by entry
_OF_THE_MODEL = ("revision",)  # means nothing for another model


@dataclass(frozen=True)
class Override:
    """`values` by key of `inference`; None takes the seed's value away. `seed` is its digest."""

    seed: str
    values: dict[str, Any] = field(default_factory=dict)


def load(seed: Settings, root: Path = Path("/")) -> Override:
    """Return the override that was made over this very seed config; else an empty one."""
    kept = read_json(root / _FILE) or {}
    values = kept.get("values")
    if kept.get("seed") == digest(seed) and isinstance(values, dict):
        return Override(digest(seed), values)
    return Override(digest(seed))


def drop_stale(seed: Settings, root: Path = Path("/")) -> bool:
    """Remove an override that was made over another seed config; tell whether there was one."""
    there = (root / _FILE).exists()
    if there and not load(seed, root).values:
        (root / _FILE).unlink(missing_ok=True)
        return True
    return False


def save(override: Override, root: Path = Path("/")) -> None:
    """Keep an override; an empty one goes away. Raises OSError."""
    if override.values:
        write_atomic(root / _FILE, json.dumps(asdict(override), indent=1) + "\n")
    else:
        (root / _FILE).unlink(missing_ok=True)


def merge(seed: Settings, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the seed's settings with `values` over them."""
    merged = dict(seed)
    if "model" in values and values["model"] != seed.get("model"):
        merged = {key: one for key, one in merged.items() if key not in _OF_THE_MODEL}
    for key, value in values.items():
        if key in _MAPS and isinstance(value, Mapping):
            whole = {**(merged.get(key) or {}), **value}
            merged[key] = {name: one for name, one in whole.items() if one is not None}
        else:
            merged[key] = value
    return {key: value for key, value in merged.items() if value is not None and value != {}}
