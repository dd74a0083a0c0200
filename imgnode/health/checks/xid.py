"""Xid errors of NVIDIA's driver in the kernel's log, and what its catalogue says of each.

An Xid is an event, a finding is a state: it stands for some minutes, in which recovery may act on
it. What lasts is seen by the other checks: of the GPUs, and of serving.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from imgnode.files import write_atomic
from imgnode.health.contract import Finding, Level, Remedy
from imgnode.health.kmsg import KernelLog, Record
from imgnode.serve.facts import read_json

NAME = "xid"
CATALOGUE = Path(__file__).parent.parent / "xid.json"
STATE = Path("var/lib/imgnode/health/xid.json")
_GPUS = Path("run/imgnode/gpu.json")
_BOOT = Path("proc/sys/kernel/random/boot_id")
_TOLD_S = 300.0
# NVIDIA, XID Errors, "Working with Xid Errors": NVRM: Xid (PCI:0000:05:00): 79, pid=…
_XID = re.compile(r"NVRM: Xid \((?:PCI:)?([0-9a-fA-F:.]+)\): (\d+)(?:, *(.*))?")
_RECOVERY = re.compile(r"GPU recovery action changed from .* to \S+ \(([^)]*)\)")  # Xid 154
_BY_DRIVER: Mapping[str, str] = {
    "None": "IGNORE",
    "GPU Reset Required": "RESET_GPU",
    "Drain and Reset": "RESET_GPU",
    "Node Reboot Required": "RESTART_BM",
}
# A double-bit error and lost NVLinks are over at a reset (catalogue: the workflows of 48 and 74);
# an NVLink error of newer boards is followed by Xid 154, in which the driver says what it wants.
_RESET = frozenset({"RESET_GPU", "WORKFLOW_XID_48", "WORKFLOW_NVLINK_ERR"})
_REBOOT = frozenset({"RESTART_BM", "RESTART_VM"})
_QUIET = frozenset({"IGNORE", "WORKFLOW_XID_45"})
_SUPPORT = "CONTACT_SUPPORT"
_HINT = "journalctl -k -g NVRM; imgnode gpu check"


@dataclass(frozen=True)
class Event:
    """One Xid line: the GPU's PCI address without function, the number, the rest of the line."""

    address: str
    xid: int
    text: str
    at: float


class Log(Protocol):
    """What `KernelLog` does."""

    def there(self) -> bool:
        """Tell whether there is a log."""

    def read(self) -> Iterator[Record]:
        """Yield what is new."""


def parse(record: Record) -> Event | None:
    """Return the Xid of a record of the kernel's log, None where it is none."""
    found = _XID.search(record.text)
    if found is None:
        return None
    address = found[1].lower().partition(".")[0]
    address = address if address.count(":") > 1 else f"0000:{address}"
    return Event(address, int(found[2]), (found[3] or "").strip(), record.at)


@dataclass
class XidCheck:
    """Counts Xids by GPU, over restarts and reboots, and tells of those that ask for something."""

    root: Path = Path("/")
    log: Log | None = None
    name: str = NAME
    every_s: float = 10.0
    counts: dict[str, dict[str, int]] = field(init=False, default_factory=dict)
    _last: int = field(init=False, default=-1)  # the number of the last record that was counted
    _boot: str = field(init=False, default="")
    _recent: list[Event] = field(init=False, default_factory=list)
    _loaded: bool = field(init=False, default=False)

    def __post_init__(self) -> None:
        self.log = self.log or KernelLog(self.root)

    def supported(self) -> bool:
        """Tell whether the kernel's log can be read."""
        return bool(self.log and self.log.there())

    def look(self, now: float) -> list[Finding]:
        """Read what is new, count it, tell what asks for something. Raises OSError."""
        if not self._loaded:
            self._load()
        events = list(self._new())
        for event in events:
            of_gpu = self.counts.setdefault(event.address, {})
            of_gpu[str(event.xid)] = of_gpu.get(str(event.xid), 0) + 1
        self._recent = [one for one in (*self._recent, *events) if now - one.at < _TOLD_S]
        if events:
            with suppress(OSError):  # a full disk must not hide a dying GPU
                self._save()
        return self._tell(self._recent)

    def tell(self) -> Mapping[str, object]:
        """Return the counts by GPU and Xid, for /run/imgnode/health.json."""
        return {"counts": self.counts}

    def _new(self) -> Iterator[Event]:
        """Yield the Xids that were not read before."""
        for record in self.log.read() if self.log else ():
            event = parse(record) if record.number > self._last else None
            self._last = max(self._last, record.number)
            if event is not None:
                yield event

    def _tell(self, events: Iterable[Event]) -> list[Finding]:
        """Return one finding for each GPU and Xid; what may be ignored is counted only."""
        catalogue = json.loads(CATALOGUE.read_text())["xids"] if events else {}
        latest = {(one.address, one.xid): one for one in events}
        found = [self._finding(one, catalogue.get(str(one.xid))) for one in latest.values()]
        return [one for one in found if one is not None]

    def _finding(self, event: Event, known: Mapping[str, str] | None) -> Finding | None:
        name, action = (known["name"], known["action"]) if known else ("unknown", _SUPPORT)
        said = _RECOVERY.search(event.text)
        if said is not None:
            action = _BY_DRIVER.get(said[1], _SUPPORT)
        if action in _QUIET:
            return None
        level, remedy = Level.WARNING, Remedy.NONE
        if action in _RESET or action in _REBOOT:
            level = Level.FAILED
            remedy = Remedy.REBOOT if action in _REBOOT else Remedy.GPU_RESET
        index = self._index(event.address)
        if remedy is Remedy.GPU_RESET and index is None:
            remedy = Remedy.REBOOT  # which GPU that is cannot be told
        count = self.counts[event.address][str(event.xid)]
        evidence: dict[str, str | float] = {"xid": event.xid, "address": event.address}
        evidence |= {"action": action, "count": count, "said": event.text[:200]}
        fact = f"GPU {event.address}: Xid {event.xid} ({name}), NVIDIA's advice: {action}"
        gpus = () if index is None else (index,)
        return Finding(
            NAME, str(event.xid), level, fact, _HINT, remedy, gpus=gpus, evidence=evidence
        )

    def _index(self, address: str) -> int | None:
        """Return the number by which the driver knows a GPU, as it was last told."""
        told = read_json(self.root / _GPUS) or {}
        devices = told.get("inventory", {}).get("devices", ())
        for one in devices:
            if str(one["address"]).lower().startswith(f"{address}."):
                return int(one["index"])
        return None

    def _load(self) -> None:
        """Go on where an earlier process ended; the numbers of records begin anew at each boot."""
        self._boot = (self.root / _BOOT).read_text().strip()
        kept = read_json(self.root / STATE) or {}
        self.counts = kept.get("counts", {})
        self._last = kept.get("last", -1) if kept.get("boot") == self._boot else -1
        self._loaded = True

    def _save(self) -> None:
        kept = {"boot": self._boot, "last": self._last, "counts": self.counts}
        write_atomic(self.root / STATE, json.dumps(kept, indent=1) + "\n")
