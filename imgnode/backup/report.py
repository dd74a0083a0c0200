"""What is remembered of backups, and how it is told: status, metrics.

`/var/lib/imgnode/backup/state.json` outlives boots; errors are kept by what was tried.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from imgnode import metrics
from imgnode.backup.stage import HOME, home
from imgnode.backup.trouble import KINDS, Trouble
from imgnode.files import write_atomic
from imgnode.serve.facts import read_json

_STATE = HOME / "state.json"
VERIFY, RESTORE = "verify", "restore"
_NEVER: Mapping[str, Any] = {"success": {}, "verified": None, "errors": {}, "bytes": 0}


def read(root: Path = Path("/")) -> dict[str, Any]:
    """Return what is remembered: times in seconds since 1970 by target, errors by what failed."""
    return {**_NEVER, **(read_json(root / _STATE) or {})}


def made(target: str, when: int, root: Path = Path("/")) -> None:
    """Note that a target has a new backup. Raises OSError."""
    state = read(root)
    _save({**_cleared(state, target), "success": {**state["success"], target: when}}, root)


def verified(root: Path = Path("/")) -> None:
    """Note that the latest backup of every target was unpacked, and is what was copied."""
    _save({**_cleared(read(root), VERIFY), "verified": int(time.time())}, root)


def restored(root: Path = Path("/")) -> None:
    """Note that the state was brought back. Raises OSError."""
    _save(_cleared(read(root), RESTORE), root)


def failed(what: str, trouble: Trouble, root: Path = Path("/")) -> None:
    """Note what went wrong with a target, VERIFY or RESTORE. Raises OSError."""
    state = read(root)
    error = {"kind": trouble.kind, "text": str(trouble), "when": int(time.time())}
    _save({**state, "errors": {**state["errors"], what: error}}, root)


def settle(targets: tuple[str, ...], size: int, root: Path = Path("/")) -> None:
    """Forget targets that the seed no longer names, and note the local size. Raises OSError."""
    state = read(root)
    kept = {*targets, VERIFY, RESTORE}
    for part in ("success", "errors"):
        state[part] = {name: one for name, one in state[part].items() if name in kept}
    _save({**state, "bytes": size}, root)


def write_metrics(root: Path = Path("/")) -> None:
    """Write the metrics of what is remembered. Raises OSError."""
    state = read(root)
    kinds = {one["kind"] for one in state["errors"].values()}
    success: metrics.Samples = {
        (("target", str(name)),): when for name, when in state["success"].items()
    }
    metrics.write(
        "backup",
        {
            metrics.BACKUP_SUCCESS: success,
            metrics.BACKUP_VERIFIED: {(): state["verified"]} if state["verified"] else {},
            metrics.BACKUP_ERROR: {(("kind", one),): int(one in kinds) for one in KINDS},
            metrics.BACKUP_BYTES: {(): state["bytes"]},
        },
        root,
    )


def lines(state: Mapping[str, Any]) -> list[str]:
    """Return what people read in `imgnode status`."""
    made_at = [f"{name} {_when(when)}" for name, when in state["success"].items()]
    checked = f"; verified {_when(state['verified'])}" if state["verified"] else ""
    told = [f"backup   {', '.join(made_at) or 'none yet'}{checked}"]
    for name, error in state["errors"].items():
        told.append(f"backup   FAILED ({name}, {error['kind']}): {error['text']}")
    return told


def _cleared(state: Mapping[str, Any], what: str) -> dict[str, Any]:
    errors = {name: one for name, one in state["errors"].items() if name != what}
    return {**state, "errors": errors}


def _save(state: Mapping[str, Any], root: Path) -> None:
    home(root)
    write_atomic(root / _STATE, json.dumps(state, indent=1) + "\n")
    write_metrics(root)


def _when(seconds: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(seconds))
