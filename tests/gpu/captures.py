"""Recorded answers of real drivers: `tests/fixtures/captures/NAME.json`, each with its origin.

    {"format": 1, "origin": {"date", "kernel", "by"}, "inventory": {…}}

`inventory` is what `imgnode gpu show --json` prints, without serial parts: UUIDs are numbered.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, replace
from pathlib import Path

from imgnode.gpu.inventory import Inventory, from_dict

FOLDER = Path(__file__).parents[1] / "fixtures/captures"
_FORMAT = 1


@dataclass(frozen=True)
class Capture:
    """One recorded answer, and where it comes from."""

    origin: dict[str, str]
    inventory: Inventory


def record(found: Inventory, origin: dict[str, str], folder: Path = FOLDER) -> Path:
    """Write an answer; the file is named by board, number and driver."""
    gpus = tuple(
        replace(
            one,
            uuid=f"GPU-{one.index}",
            mig_devices=tuple(
                replace(part, uuid=f"MIG-{one.index}-{number}")
                for number, part in enumerate(one.mig_devices)
            ),
        )
        for one in found.devices
    )
    board = found.devices[0].name or "unknown"
    words = f"{len(gpus)}x {board} {found.driver}"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{re.sub('[^a-z0-9.]+', '-', words.lower())}.json"
    told = {"format": _FORMAT, "origin": origin}
    told["inventory"] = replace(found, devices=gpus).as_dict()
    path.write_text(json.dumps(told, indent=1) + "\n")
    return path


def load(path: Path) -> Capture:
    """Return a recorded answer. Raises ValueError for a file of another format."""
    values = json.loads(path.read_text())
    if values["format"] != _FORMAT:
        raise ValueError(f"{path}: format {values['format']} is not known")
    return Capture(values["origin"], from_dict(values["inventory"]))
