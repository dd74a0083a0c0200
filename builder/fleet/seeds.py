"""The seed of each node, rendered from the inventory."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from builder.core.files import write_atomic
from builder.fleet.nodes import Node

USER_DATA = "user-data"
_HEADER = "#cloud-config\n"
_OURS = ("hostname", "inference")


def render(node: Node) -> str:
    """Return the user-data of a node: its name, the inventory's `seed:`, and its `inference:`."""
    values: dict[str, Any] = {"hostname": node.name, **node.seed}
    if node.inference:
        values["inference"] = node.inference
    text: str = yaml.safe_dump(values, sort_keys=False, allow_unicode=True, width=100)
    return f"{_HEADER}{text}"


def problems(node: Node) -> list[str]:
    """Return what an inventory may say of a seed that no seed can mean."""
    found = [
        f"{node.name}: seed.{key}: does not belong here (hint: inventory variable {key})"
        for key in _OURS[1:]
        if key in node.seed
    ]
    for where, value in _texts({"seed": node.seed, "inference": node.inference}):
        if "{{" in value or "{%" in value:
            found.append(f"{node.name}: {where}: is a template (hint: write the value itself)")
    return found


def _texts(value: object, where: str = "") -> list[tuple[str, str]]:
    if isinstance(value, str):
        return [(where, value)]
    if isinstance(value, Mapping):
        pairs = [(f"{where}.{key}" if where else str(key), one) for key, one in value.items()]
    elif isinstance(value, list):
        pairs = [(f"{where}[{number}]", one) for number, one in enumerate(value)]
    else:
        return []
    return [found for path, one in pairs for found in _texts(one, path)]


def write(folder: Path, name: str, text: str) -> bool:
    """Write a node's seed, for its owner alone; tell whether it was another one before.

    Raises OSError.
    """
    path = folder / name / USER_DATA
    if path.exists() and path.read_text() == text:
        return False
    write_atomic(path, text, 0o600)
    return True
