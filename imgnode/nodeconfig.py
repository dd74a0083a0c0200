"""What this boot's config is and where it comes from: `/run/imgnode/node.json`.

The guard writes it, everything else on the node reads it.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from imgnode.files import write_atomic

_NODE = Path("run/imgnode/node.json")
_ERROR = Path("run/imgnode/seed-error.json")
SEED, LAST_GOOD, DEFAULT = "seed", "last good seed", "default"


@dataclass(frozen=True)
class NodeConfig:
    """The config in force; `source` is where `inference` comes from.

    `replaced` names what else was taken from the last good seed: files, or keys of
    user-data. `device` is where the present seed lies, None where there is none. `backup` is
    the seed's key of that name.
    """

    inference: dict[str, Any] = field(default_factory=dict)
    source: str = DEFAULT
    replaced: tuple[str, ...] = ()
    device: str | None = None
    backup: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class SeedError:
    """One mistake in the present seed; `text` is the line that people read."""

    key: str
    text: str


def write_node(config: NodeConfig, errors: list[SeedError], root: Path = Path("/")) -> None:
    """Write both files; without errors the second one goes away. Raises OSError."""
    write_atomic(root / _NODE, json.dumps(asdict(config), indent=1) + "\n")
    if errors:
        text = json.dumps({"problems": [asdict(one) for one in errors]}, indent=1)
        write_atomic(root / _ERROR, text + "\n")
    else:
        (root / _ERROR).unlink(missing_ok=True)


def read_node(root: Path = Path("/")) -> NodeConfig | None:
    """Return the config in force, or None where the guard has not run."""
    try:
        values = json.loads((root / _NODE).read_text())
    except FileNotFoundError:
        return None
    return NodeConfig(**{**values, "replaced": tuple(values["replaced"])})


def read_errors(root: Path = Path("/")) -> list[SeedError]:
    """Return the mistakes in the present seed; none where it is good."""
    try:
        values = json.loads((root / _ERROR).read_text())
    except FileNotFoundError:
        return []
    return [SeedError(**one) for one in values["problems"]]
