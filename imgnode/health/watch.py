"""The loop of imgnode-health.service: every check at its own pace, what it found told at once.

No check can stop the loop, or another check. systemd watches the loop (WatchdogSec=).
"""

from __future__ import annotations

import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from imgnode.gpu.profile import read_profile
from imgnode.health import report
from imgnode.health.checks.certificates import CertificatesCheck
from imgnode.health.checks.clock import ClockCheck
from imgnode.health.checks.disk import DiskCheck
from imgnode.health.checks.docker import DockerCheck
from imgnode.health.checks.layers import LayersCheck
from imgnode.health.checks.memory import MemoryCheck
from imgnode.health.checks.network import NetworkCheck
from imgnode.health.checks.serve import ServeCheck
from imgnode.health.checks.units import UnitsCheck
from imgnode.health.checks.xid import XidCheck
from imgnode.health.contract import Finding, HealthCheck
from imgnode.health.slot import HANG_S, Slot
from imgnode.serve.notify import READY, notify, status

ROUND_S = 10.0
_BUSY_S = 2.0  # between two rounds while somebody acts
_SOON_S = 8.0  # so long a round waits for its looks; what takes longer comes with a later one
_POLL_S = 0.05
_LIMIT_S = {"gpu": 120.0, "layers": 120.0, "units": 120.0}  # they ask programs, with own limits
_WATCHDOG = "WATCHDOG=1"


class Acts(Protocol):
    """Who does something about findings (imgnode/recover)."""

    @property
    def busy(self) -> bool:
        """Whether something is being done just now, and is to be looked after soon."""

    def consider(self, findings: Sequence[Finding], now: float) -> None:
        """Take what is wrong now; return soon. `now` is time.monotonic()."""


class Idle:
    """Does nothing about anything."""

    busy = False

    def consider(self, findings: Sequence[Finding], now: float) -> None:
        """Take it and leave it."""


def checks(root: Path = Path("/")) -> tuple[HealthCheck, ...]:
    """Return all checks, causes before effects."""
    return (
        DiskCheck(root),
        MemoryCheck(root),
        ClockCheck(root),
        NetworkCheck(root),
        UnitsCheck(root),
        *_gpus(root),
        XidCheck(root),
        LayersCheck(root),
        DockerCheck(root),
        ServeCheck(root),
        CertificatesCheck(root),
    )


def _gpus(root: Path) -> Iterable[HealthCheck]:
    """Return the check of the GPUs. Only a node with GPUs pays for what it loads."""
    if read_profile(root) is None:
        return ()
    from imgnode.health.checks.gpu import GpuCheck  # noqa: PLC0415 - 1 MB of memory

    return (GpuCheck(root),)


def supported(found: Iterable[HealthCheck]) -> list[HealthCheck]:
    """Return those whose matter this node has; one that cannot tell is asked all the same."""
    kept = []
    for check in found:
        try:
            if not check.supported():
                continue
        except (OSError, ValueError, LookupError) as error:
            print(f"health: {check.name}: {error}", file=sys.stderr, flush=True)
        kept.append(check)
    return kept


@dataclass
class Watch:
    """All checks of this node, and who acts on them."""

    slots: Sequence[Slot]
    acts: Acts = field(default_factory=Idle)
    root: Path = Path("/")
    clock: Callable[[], float] = time.monotonic
    _told: tuple[tuple[str, str], ...] = field(init=False, default=())

    def round(self, wait: Callable[[float], object] = time.sleep) -> None:
        """Look at what is due, tell everything, let it be acted upon. Raises OSError.

        `wait` waits for so many seconds; where it returns something true, the round is over.
        """
        began = self.clock()
        for slot in self.slots:
            slot.begin(began)
        while any(slot.busy for slot in self.slots) and self.clock() - began < _SOON_S:
            if wait(_POLL_S):
                return
        now = self.clock()
        seen = [one for one in (slot.seen(now) for slot in self.slots) if one is not None]
        findings = [finding for one in seen for finding in one.findings]
        report.write(seen, self.root)
        self._journal(findings)
        notify(READY, _WATCHDOG, status(f"{report.worst(findings)}, {len(findings)} findings"))
        self.acts.consider(findings, now)

    def _journal(self, findings: Sequence[Finding]) -> None:
        """Say what is new and what is over, once."""
        new = {(one.check, one.key): one for one in findings}
        for name, one in new.items():
            if name not in self._told:
                print(f"health: {one.level}: {one.check}: {one.fact}", flush=True)
        for check, key in self._told:
            if (check, key) not in new:
                print(f"health: over: {check}: {key}", flush=True)
        self._told = tuple(new)


def run(acts: Acts | None = None, root: Path = Path("/")) -> None:
    """Watch until SIGTERM. Raises OSError for a full /run."""
    over = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: over.set())
    slots = [Slot(one, _LIMIT_S.get(one.name, HANG_S)) for one in supported(checks(root))]
    watch = Watch(slots, acts or Idle(), root)
    while not over.is_set():
        began = time.monotonic()
        watch.round(over.wait)
        pause = _BUSY_S if watch.acts.busy else ROUND_S
        over.wait(max(0.0, pause - (time.monotonic() - began)))
