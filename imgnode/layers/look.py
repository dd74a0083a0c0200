"""Looks at the layer store: quickly for `status`, at every byte for `verify`."""

from __future__ import annotations

from pathlib import Path

from imgnode.layers import mounts
from imgnode.layers.apply import keeper
from imgnode.layers.report import Outcome, Report, State, label, publish, titles
from imgnode.layers.store import Store, intact, locked, size_of
from imgnode.payload import LayerFile, read_payload
from imgnode.problems import Problem


def look(root: Path = Path("/")) -> list[Outcome]:
    """Return how each file of this version stands, without reading it.

    Damage that was met is known to root only. Raises OSError or ValueError for a damaged image.
    """
    payload, store = read_payload(root), Store(root)
    if not payload.files:
        return []
    points, good = mounts.mount_points(root), mounts.verdicts()
    names = titles(payload)
    found = []
    for file in payload.files:
        mounted = mounts.place(file.root_hash, root) in points
        damaged = not good.get(mounts.device_name(file), True)
        state = _state(file, store, mounted=mounted, damaged=damaged)
        found.append(Outcome(file, names.get(file.root_hash, "unnamed"), state))
    return found


def _state(file: LayerFile, store: Store, *, mounted: bool, damaged: bool) -> State:
    size = size_of(store.path(file))
    if damaged or size not in {file.bytes, None}:
        return State.CORRUPT
    if mounted:
        return State.MOUNTED
    if size is None:
        return State.CORRUPT if store.bad(file).exists() else State.MISSING
    return State.FAILED


def verify(root: Path = Path("/"), *, repair: bool = False) -> Report:
    """Read every file of this version in full; replace what is bad if asked to.

    Takes seconds for each GB; others wait. Writes the metrics. Raises OSError or ValueError.
    """
    with locked(root):
        payload, store = read_payload(root), Store(root)
        one = keeper(payload, root)
        outcomes = []
        for seen in look(root):
            if seen.state is not State.CORRUPT and intact(store.path(seen.file), seen.file):
                outcomes.append(seen)
            else:
                outcomes.append(one.repair(seen.file) if repair else _judged(seen, store))
        whole = sum(outcome.problem is None for outcome in outcomes)
        report = Report(tuple(outcomes), notes=(f"{whole} of {len(outcomes)} files are whole",))
        publish(report, root)
    return report


def _judged(seen: Outcome, store: Store) -> Outcome:
    there = size_of(store.path(seen.file)) is not None
    fact = "is not as the image's list says" if there else f"is not in {store.folder}"
    problem = Problem(label(seen.file, seen.what), fact, "imgnode layers verify --repair")
    state = State.CORRUPT if there else seen.state
    return Outcome(seen.file, seen.what, state, problem)
