"""What the terminal, the page and the API show: one row for each machine; no keys, no seeds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from builder.serve.desk import SILENT_S, Desk
from builder.serve.records import Record

_ORDER = ("failed", "held", "waiting", "installing", "ordered", "expected", "done")


@dataclass(frozen=True)
class Row:
    """One machine. `percent` is of its phase; None where the phase has no bytes to count."""

    name: str
    state: str
    why: str
    phase: str
    percent: int | None
    rate: int
    profile: str
    channel: str
    version: str
    disk: str
    address: str
    serial: str
    uuid: str
    macs: tuple[str, ...]
    started: float
    seen: float
    ended: float
    silent: bool


def rows(desk: Desk) -> list[Row]:
    """Return all machines: those that need somebody first, then by name."""
    plan = desk.inventory.plan
    found, sharing = [], desk.peers.sharing(desk.now())
    for name in plan.nodes:
        wanted, record = plan.wanted(name), desk.store.node(name)
        if name in sharing:
            record = record.model_copy(update={"phase": "share"})
        found.append(_row(record, desk.now(), wanted.profile or "", wanted.channel))
    found += [_row(one, desk.now(), "", "") for one in desk.store.waiting()]
    return sorted(found, key=lambda one: (_ORDER.index(one.state), one.name))


def as_json(found: Sequence[Row]) -> list[dict[str, object]]:
    """Return rows as JSON has them."""
    return [asdict(one) for one in found]


def counts(found: Sequence[Row]) -> dict[str, int]:
    """Return how many machines are in each state, those that need somebody first."""
    seen = Counter(one.state for one in found)
    return {state: seen[state] for state in _ORDER if seen[state]}


def _row(record: Record, now: float, profile: str, channel: str) -> Row:
    running = record.state in ("installing", "ordered")
    percent = min(100 * record.done // record.total, 100) if record.total else None
    error = f"{record.error.kind}: {record.error.text}" if record.error else ""
    return Row(
        name=record.name,
        state=record.state,
        why=record.why or error,
        phase=record.phase,
        percent=percent if running else None,
        rate=round(record.rate) if running else 0,
        profile=profile,
        channel=channel,
        version=record.version or "",
        disk=record.disk or "",
        address=record.address,
        serial=record.who.serial,
        uuid=record.who.uuid,
        macs=record.who.macs,
        started=record.started,
        seen=record.seen,
        ended=record.ended,
        silent=running and now - record.seen > SILENT_S,
    )
