"""What runs as the node, in a process of its own that is measured.

    python -m bench.updates.node update ROOT
    python -m bench.updates.node casync ROOT PLAN

The first is `imgnode update stage`, the node's own code, below ROOT. The second does the same
with casync(1): PLAN is a JSON file with `store`, `files` (index, target, seeds) and `tree`.
"""

from __future__ import annotations

import json
import sys
import uuid
from pathlib import Path
from typing import Any

from imgnode import process
from imgnode.release.verity import write_tree
from imgnode.update import stage as staging
from imgnode.update.facts import read_facts
from imgnode.update.run import Order, bring
from imgnode.update.slots import Slot

_CASYNC_S = 1800
_ROOM = 1 << 40
_NOWHERE = Path("/dev/null")


def main() -> int:
    """Update a node; return 0 when all is there and as it must be."""
    way, root = sys.argv[1], Path(sys.argv[2])
    if way == "update":
        return _update(root)
    return _casync(json.loads(Path(sys.argv[3]).read_text()))


def _update(root: Path) -> int:
    """Do all that comes before the other slot is written. The host has no slots to look at."""
    slot = Slot("_empty", _NOWHERE, _ROOM, _NOWHERE, _ROOM)
    staging.other_slot = lambda *_: slot  # type: ignore[attr-defined]
    done = bring(read_facts(root), Order(), print, root)
    return 0 if done else 1


def _casync(plan: dict[str, Any]) -> int:
    """Fetch each file, its chunks from the seeds where these have them; work out the hash tree."""
    for file in plan["files"]:
        seeds = [f"--seed={seed}" for seed in file["seeds"]]
        words = ["extract", f"--store={plan['store']}", *seeds, file["index"], file["target"]]
        done = process.run(["casync", *words], timeout_s=_CASYNC_S)
        if done.rc:
            print(done.stderr, file=sys.stderr)
            return 1
    tree = plan["tree"]
    root_hash = write_tree(
        Path(plan["files"][0]["target"]),
        Path(tree["target"]),
        salt=bytes.fromhex(tree["salt"]),
        uuid=uuid.UUID(tree["uuid"]),
    )
    return 0 if root_hash == tree["root_hash"] else 1


if __name__ == "__main__":
    sys.exit(main())
