"""What became of the version that was written last: good, still on trial, or left behind."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

from imgnode.bootentries import entry_of
from imgnode.update import state as remembered
from imgnode.update.facts import Facts
from imgnode.update.state import State

_LEFT_BEHIND = "it was started three times and did not become good"


def settle(facts: Facts, root: Path = Path("/")) -> State:
    """Return what is remembered, after what the last boot tells was written down.

    A version that ran out of tries is noted as failed here; it is not taken again unless told.
    Raises OSError.
    """
    state = remembered.load(root)
    if state.applied is None:
        return state
    entry = entry_of(f"{facts.image_id}_{state.applied.version}", root)
    if entry is not None and entry.left is None and facts.version == state.applied.version:
        new = replace(state.without_failed(facts.version), applied=None, updated=int(time.time()))
    elif entry is not None and not entry.bootable:
        new = state.with_failed(state.applied.version, _LEFT_BEHIND)
    elif entry is None:  # taken away by hand, or by a later update
        new = replace(state, applied=None)
    else:
        return state
    remembered.save(new, root)
    return new
