"""The node itself: which version runs, from which slot, and the Xid errors of its GPUs."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from imgnode.exporter.names import NODE
from imgnode.identity import read_identity, read_slot
from imgnode.metrics import Samples, render
from imgnode.serve.facts import read_json

HEALTH = Path("run/imgnode/health.json")
_LEFT = re.compile(r"\+(\d+)")


def identity_text(root: Path = Path("/")) -> str:
    """Return what does not change while the node is up. Raises OSError, KeyError, ValueError."""
    now = read_identity(root)
    image = {
        "image_id": now.image_id,
        "version": now.version,
        "slot": read_slot(root) or "",
        "root_hash": now.root_hash,
    }
    left = _LEFT.match(now.tries or "")
    metrics: dict[str, Samples] = {
        "imgnode_image_info": {tuple(image.items()): 1},
        "imgnode_boot_tries_left": {(): int(left[1])} if left else {},
        "imgnode_var_volatile": {(): now.var_degraded is not None},
    }
    return render(metrics, NODE)


def xid_text(root: Path = Path("/")) -> str:
    """Return the Xid errors that the health checks counted; none where none look."""
    counts = _counts(read_json(root / HEALTH) or {})
    return render({"imgnode_xid_total": counts}, NODE)


def _counts(health: dict[str, Any]) -> Samples:
    """Return what imgnode/health counts: by PCI address without function, by Xid."""
    try:
        counts = health["checks"]["xid"]["counts"]
        return {
            (("address", f"{address}.0"), ("xid", xid)): float(count)
            for address, of_gpu in counts.items()
            for xid, count in of_gpu.items()
        }
    except (KeyError, TypeError, ValueError, AttributeError):  # nobody looks, or not yet
        return {}
