"""How the form of the state is told: journal, metrics, `imgnode status`."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from imgnode import metrics
from imgnode.files import write_atomic
from imgnode.schema.apply import Standing
from imgnode.serve.facts import read_json

FILE = Path("run/imgnode/schema.json")


def tell(found: Standing | None, error: str | None, root: Path = Path("/")) -> list[str]:
    """Note how the state stands, or why that cannot be told; return what is wrong, in lines.

    Raises OSError for a full /run.
    """
    told = {**(asdict(found) if found else {"number": None}), "error": error}
    write_atomic(root / FILE, json.dumps(told, indent=1) + "\n")
    metrics.write(
        "schema",
        {
            metrics.STATE_SCHEMA: {(): found.number} if found else {},
            metrics.STATE_SCHEMA_KNOWN: {(): found.known} if found else {},
        },
        root,
    )
    return lines(told)


def read(root: Path = Path("/")) -> dict[str, Any] | None:
    """Return what was told in this boot, None before."""
    return read_json(root / FILE)


def lines(told: dict[str, Any] | None) -> list[str]:
    """Return the lines of `imgnode status`: none while all is well."""
    if told is None:
        return []
    if told["error"]:
        return [f"state    CANNOT BE USED: {told['error']}"]
    if told["number"] > told["known"]:
        newer = f"NEWER: of form {told['number']}, this version knows {told['known']}"
        return [f"state    {newer}; what it does not know is passed over"]
    return []
