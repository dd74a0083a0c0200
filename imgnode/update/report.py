"""How updates are told: status for people and machines, metrics."""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from imgnode import metrics
from imgnode.bootentries import entries
from imgnode.files import write_atomic
from imgnode.serve.facts import read_json
from imgnode.update import state as remembered
from imgnode.update.channel import Channel
from imgnode.update.facts import Facts
from imgnode.update.refused import KINDS, Refused
from imgnode.update.slots import find_slots
from imgnode.update.stage import staged

FILE = Path("run/imgnode/update.json")


def checked(channel: Channel, facts: Facts, root: Path = Path("/")) -> None:
    """Note that the channel was read and believed. Raises OSError."""
    available = channel.version if channel.version != facts.version else None
    _write(available, None, root)


def refused(fault: Refused, root: Path = Path("/")) -> None:
    """Note why a run took nothing. Raises OSError."""
    before = read_json(root / FILE) or {}
    _write(before.get("available"), fault, root)


def _write(available: str | None, fault: Refused | None, root: Path) -> None:
    error = {"kind": fault.kind, "text": str(fault)} if fault else None
    kind = fault.kind if fault else None
    now = int(time.time())
    last = (read_json(root / FILE) or {}).get("checked") if fault else now
    told = {"available": available, "checked": last, "error": error}
    write_atomic(root / FILE, json.dumps(told, indent=1) + "\n")
    state = remembered.load(root)
    metrics.write(
        "update",
        {
            metrics.UPDATE_AVAILABLE: {(): int(available is not None)},
            metrics.UPDATE_CHECKED: {(): last} if last else {},
            metrics.UPDATE_ERROR: {(("kind", one),): int(one == kind) for one in KINDS},
            metrics.UPDATE_FAILED: {(): len(state.failed)},
        },
        root,
    )


def status(facts: Facts, root: Path = Path("/")) -> dict[str, Any]:
    """Return everything that is known of updates. Raises Refused or OSError."""
    state, ready = remembered.load(root), staged(root)
    trying = {entry.stem: entry.left for entry in entries(root)}
    return {
        "running": facts.version,
        "channel": facts.channel,
        "slots": [
            {"label": slot.label, "tries": trying.get(slot.label), "entry": slot.label in trying}
            for slot in find_slots(root)
        ],
        "staged": ready.version if ready else None,
        "applied": asdict(state.applied) if state.applied else None,
        "failed": dict(state.failed),
        "updated": state.updated,
        **(read_json(root / FILE) or {"available": None, "checked": None, "error": None}),
    }


def lines(told: dict[str, Any], facts: Facts) -> list[str]:
    """Return what people read."""
    found = [f"running   {told['running']}, channel {told['channel']}"]
    for slot in told["slots"]:
        version = slot["label"].removeprefix(f"{facts.image_id}_")
        found.append(f"slot      {version}: {_condition(slot, facts)}")
    found.append(
        f"available {told['available'] or 'nothing new'}, checked {_when(told['checked'])}"
    )
    if told["staged"]:
        found.append(f"staged    {told['staged']}: imgnode update apply")
    if told["applied"]:
        found.append(f"written   {told['applied']['version']}, not yet good")
    found += [f"failed    {version}: {why}" for version, why in told["failed"].items()]
    if told["error"]:
        found.append(f"error     {told['error']['kind']}: {told['error']['text']}")
    return found


def _condition(slot: dict[str, Any], facts: Facts) -> str:
    if slot["label"] in {"_empty", ""}:
        return "empty"
    runs = "runs, " if slot["label"] == facts.stem else ""
    if not slot["entry"]:
        return f"{runs}no boot entry"
    if slot["tries"] is None:
        return f"{runs}good"
    return f"{runs}on trial, {slot['tries']} tries left" if slot["tries"] else f"{runs}left behind"


def _when(seconds: int | None) -> str:
    if not seconds:
        return "never since the boot"
    return time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(seconds))
