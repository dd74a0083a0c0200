"""Judges the node's GPUs and tells it: `/run/imgnode/gpu.json`, metrics.

    report = look()             # asks the driver: up to a minute
    report.faults               # what makes the node unfit
    report.warnings             # what can wait for the day
    whose(report.faults[0])     # "hardware", or "image" where another version may help

`run()` returns the faults alone.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from imgnode import metrics
from imgnode.files import write_atomic
from imgnode.gpu.compare import FAULTS, OF_THE_IMAGE, WARNINGS, compare, key_of
from imgnode.gpu.inventory import Inventory, take
from imgnode.gpu.profile import GpuProfile, read_profile
from imgnode.problems import Problem
from imgnode.process import run as run_program
from imgnode.serve.facts import read_json

FILE = Path("run/imgnode/gpu.json")
HARDWARE, IMAGE = "hardware", "image"
_FABRIC = "nvidia-fabricmanager.service"


@dataclass(frozen=True)
class Report:
    """What was found. `profile` and `inventory` are None where the image is for no GPU."""

    profile: GpuProfile | None = None
    inventory: Inventory | None = None
    faults: tuple[Problem, ...] = ()
    warnings: tuple[Problem, ...] = ()


def run(root: Path = Path("/")) -> tuple[Problem, ...]:
    """Return what makes the node unfit; nothing where the image is for no GPU.

    Warnings are left out (`look` has them). Takes up to a minute, since the driver may hang.
    """
    return look(root).faults


def whose(problem: Problem) -> str:
    """Return whose matter a fault is: HARDWARE, or IMAGE where another version may help."""
    return IMAGE if key_of(problem) in OF_THE_IMAGE else HARDWARE


def look(root: Path = Path("/"), inventory: Inventory | None = None) -> Report:
    """Ask the driver (or take what it has just said), judge, write the state file and metrics.

    Where /run may not be written, as by a person without sudo, nothing is. Raises OSError or
    ValueError where the image's own files cannot be read.
    """
    report = judge(root, inventory)
    with suppress(PermissionError):
        _publish(report, root)
    return report


def judge(root: Path = Path("/"), inventory: Inventory | None = None) -> Report:
    """Do the same without writing anything."""
    profile = read_profile(root)
    if profile is None:
        return Report()
    found = inventory or take(root)
    fabric = _fabric_runs() if profile.fabric_manager else None
    verdict = compare(profile, found, fabric=fabric)
    return Report(profile, found, verdict.faults, verdict.warnings)


def read(root: Path = Path("/")) -> dict[str, Any] | None:
    """Return what was told last; None before the first look, or where there are no GPUs."""
    return read_json(root / FILE)


def lines(told: dict[str, Any] | None) -> list[str]:
    """Return the lines of `imgnode status`."""
    if told is None:
        return []
    wanted = "" if told["expected"] is None else f" of {told['expected']}"
    state = "UNFIT" if told["faults"] else "fit"
    found = [f"gpu      {state}: {told['found']}{wanted} x {told['model']}"]
    for name in ("faults", "warnings"):
        found += [f"gpu      {name[:-1]}: {Problem(**one)}" for one in told[name]]
    return found


def _fabric_runs() -> bool:
    return run_program(["systemctl", "is-active", "--quiet", _FABRIC], timeout_s=10).rc == 0


def _publish(report: Report, root: Path) -> None:
    profile, inventory = report.profile, report.inventory
    if profile is None or inventory is None:
        return
    told = {
        "checked": int(time.time()),
        "model": profile.model,
        "expected": profile.count,
        "found": len(inventory.usable),
        "faults": [asdict(one) for one in report.faults],
        "warnings": [asdict(one) for one in report.warnings],
        "inventory": inventory.as_dict(),
    }
    write_atomic(root / FILE, json.dumps(told, indent=1) + "\n")
    counts = Counter(key_of(one) for one in (*report.faults, *report.warnings))
    samples: dict[str, metrics.Samples] = {
        metrics.GPU_EXPECTED: {} if profile.count is None else {(): profile.count},
        metrics.GPU_FOUND: {(): len(inventory.usable)},
        metrics.GPU_PROBLEMS: {(("key", key),): counts[key] for key in (*FAULTS, *WARNINGS)},
    }
    metrics.write("gpu", samples, root)
