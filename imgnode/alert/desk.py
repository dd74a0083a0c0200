"""Turns findings into alerts and sees to it that they are told, without ever waiting for anybody.

Each channel has a child of its own (imgnode.alert.__main__): a receiver that hangs costs nothing.
"""

from __future__ import annotations

import contextlib
import json
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from imgnode import metrics
from imgnode.alert import screens
from imgnode.alert.alert import CRITICAL, SEVERITIES, Alert, of_finding
from imgnode.alert.batch import write_batch
from imgnode.alert.book import Book
from imgnode.alert.channels import LIMIT_S, REPEAT_S, read_receivers
from imgnode.files import write_atomic
from imgnode.health.contract import Finding, Level
from imgnode.health.report import MAINTENANCE
from imgnode.recover.work import Running, Start, start

STATUS = Path("run/imgnode/alert.json")
_CHILD = (sys.executable, "-P", "-m", "imgnode.alert")
_AFTER_S = {Level.FAILED: 0.0, Level.WARNING: 300.0}  # how long it lasts before it is told
_OVER_S = 120.0  # how long it must be gone
_AGAIN_S, _AGAIN_MAX_S = 30.0, 1800.0
_POLL_S = 0.0
_LATE = 124


@dataclass
class Channel:
    """One way out, and how it went: `failures` in a row, not before `again` (monotonic)."""

    name: str
    failures: int = 0
    again: float = 0.0
    child: Running | None = None
    since: float = 0.0
    batch: Sequence[Alert] = ()
    begun: float = 0.0


@dataclass
class Desk:
    """One for each process that looks after the node."""

    root: Path = Path("/")
    begin: Start = start
    wall: Callable[[], float] = time.time
    _book: Book = field(init=False)
    _channels: list[Channel] = field(init=False)
    _times: dict[str, tuple[float, float]] = field(init=False, default_factory=dict)
    _told: tuple[object, ...] | None = field(init=False, default=None)
    _shown: tuple[str, ...] | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        """Go on with what an earlier process has kept."""
        self._book = Book(self.root)
        self._channels = [Channel(one) for one in read_receivers(self.root).channels(self.root)]

    def consider(self, findings: Iterable[Finding], now: float) -> None:
        """Take all findings of a round, at `now` in seconds of time.monotonic()."""
        self._observe(findings, now)
        for channel in self._channels:
            self._deliver(channel, now)
        self._book.tidy([one.name for one in self._channels], self.wall())
        with contextlib.suppress(OSError):  # a full disk: it is still in memory
            self._book.save()
        self._show()

    def _observe(self, findings: Iterable[Finding], now: float) -> None:
        for finding in findings:
            after = _AFTER_S.get(finding.level)
            if after is None:
                continue
            alert = of_finding(finding, self.wall())
            first, _ = self._times.get(alert.fingerprint, (now, now))
            self._times[alert.fingerprint] = (first, now)
            if now - first >= after:
                self._book.fire(alert)
        for alert in self._book.firing:
            _, last = self._times.setdefault(alert.fingerprint, (now, now))
            if now - last >= _OVER_S:
                self._book.end(alert.fingerprint, self.wall())
        self._times = {name: at for name, at in self._times.items() if now - at[1] < _OVER_S}

    def _deliver(self, channel: Channel, now: float) -> None:
        """Look after a delivery, or begin one where something is due."""
        if channel.child is not None:
            self._look_after(channel, channel.child, now)
        silent = (self.root / MAINTENANCE).exists()
        if channel.child is not None or silent or now < channel.again:
            return
        batch = self._book.due(channel.name, REPEAT_S[channel.name], self.wall())
        if not batch:
            return
        channel.batch, channel.begun, channel.since = batch, self.wall(), now
        try:
            write_batch(channel.name, batch, self.root)
            channel.child = self.begin([*_CHILD, channel.name, str(self.root)])
        except OSError:
            self._ended(channel, 1, now)

    def _look_after(self, channel: Channel, child: Running, now: float) -> None:
        rc = child.wait(timeout_s=_POLL_S)
        if rc is None and now - channel.since > LIMIT_S:
            child.kill()
            rc = _LATE
        if rc is not None:
            self._ended(channel, rc, now)

    def _ended(self, channel: Channel, rc: int, now: float) -> None:
        channel.child = None
        if rc == 0:
            self._book.told(channel.name, channel.batch, channel.begun)
            channel.failures, channel.again = 0, 0.0
        else:
            channel.again = now + min(_AGAIN_S * 2.0**channel.failures, _AGAIN_MAX_S)
            channel.failures += 1

    def _show(self) -> None:
        """Write screens, metrics and state file where they have changed."""
        firing = self._book.firing
        failures = {one.name: one.failures for one in self._channels}
        told = ([one.fingerprint for one in firing], [str(one) for one in firing], failures)
        if told == self._told:
            return
        self._told = told
        with contextlib.suppress(OSError):
            self._publish(firing, failures)

    def _publish(self, firing: Sequence[Alert], failures: dict[str, int]) -> None:
        critical = {one.fingerprint: one for one in firing if one.labels["severity"] == CRITICAL}
        if tuple(critical) != self._shown:  # words alone may change with each round
            for name, one in critical.items():
                if name not in (self._shown or ()):
                    print(f"<2>alert: {one}", file=sys.stderr, flush=True)
            self._shown = tuple(critical)
            screens.show(screens.lines(list(critical.values())), self.root)
        status = {"firing": [asdict(one) for one in firing], "failures": failures}
        write_atomic(self.root / STATUS, json.dumps(status, indent=1) + "\n")
        counts: metrics.Samples = {
            (("severity", one),): sum(a.labels["severity"] == one for a in firing)
            for one in SEVERITIES
        }
        failed: metrics.Samples = {(("channel", one),): n for one, n in failures.items()}
        told = {metrics.ALERTS_FIRING: counts, metrics.ALERT_FAILURES: failed}
        metrics.write("alert", told, self.root)


def status_lines(root: Path = Path("/")) -> list[str]:
    """Return the lines of `imgnode status`: how many alerts fire, and who cannot be told."""
    try:
        told = json.loads((root / STATUS).read_text())
        firing = [one["annotations"]["summary"] for one in told["firing"]]
        critical = [one for one in told["firing"] if one["labels"]["severity"] == CRITICAL]
        failing = [name for name, n in told["failures"].items() if n]
    except (OSError, ValueError, KeyError, TypeError):
        return []
    found = []
    if firing:
        found.append(f"alert    {len(firing)} firing, {len(critical)} critical: {firing[0]}")
    found += [f"alert    {name} does not take them: imgnode alert status" for name in failing]
    return found
