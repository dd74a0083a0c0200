"""A node that recovery looks after: its clock, its programs, what they bring about."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import pytest

from imgnode.gate import systemd
from imgnode.health.contract import Finding, Level, Remedy
from imgnode.recover import history
from imgnode.recover.engine import Engine
from imgnode.recover.holds import Holds, Unit
from tests.unit import serve_node

STALLED = Finding("serve", "stalled", Level.FAILED, "no token for 45 s", remedy=Remedy.SERVE)
DOCKER = Finding("docker", "hung", Level.FAILED, "Docker does not answer", remedy=Remedy.DOCKER)
GPU = Finding(
    "gpu", "xid", Level.FAILED, "Xid 119", remedy=Remedy.GPU_RESET, gpus=(0, 3)
)  # fmt: skip
EXPORTER = Finding(
    "units", "exporter", Level.FAILED, "it failed", remedy=Remedy.UNIT, unit="exporter.service"
)  # fmt: skip
_ROUND_S = 5.0


class Child:
    """A program that ends with `rc` after `seconds`; None: never."""

    def __init__(self, node: Node, rc: int, seconds: float | None) -> None:
        self._node, self._rc, self._killed = node, rc, False
        self._ends = None if seconds is None else node.now + seconds

    def wait(self, *, timeout_s: float) -> int | None:
        assert timeout_s <= 1, "the health loop waits for it"
        if self._killed:
            return -9
        return self._rc if self._ends is not None and self._node.now >= self._ends else None

    def kill(self) -> None:
        self._killed = True


class Node:
    """Time passes by `rounds`; `mends` says after which program the trouble is gone."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.root = serve_node.make(root)
        self.now, self.wall = 1000.0, 1_790_000_000.0
        self.ran: list[str] = []
        self.alerts: list[Sequence[Finding]] = []
        self.units: dict[str, Unit] = {}
        self.programs: dict[str, tuple[int, float | None]] = {}
        self.findings: list[Finding] = []
        self.mends: Callable[[str], bool] = lambda _: False
        self.serves: bool | None = True  # whether a start comes to serve; None: it says nothing
        self.gone: list[str] = []  # what the gate's own systemd calls were
        monkeypatch.setattr("os.fsync", lambda _: None)  # it would take most of the time
        monkeypatch.setattr(systemd, "act", lambda *words: self.gone.append(" ".join(words)))
        self.says("serving", began=self.now - 100)
        self.engine = self.new_engine()

    def new_engine(self) -> Engine:
        """Return an engine as a new process has it."""
        holds = Holds(self.root, ask=self._ask, wall=lambda: self.wall)
        return Engine(
            self.root,
            alerts=lambda found, _: self.alerts.append(found),
            start=self._start,
            wall=lambda: self.wall,
            holds=holds,
        )

    def restart(self, *, boot: str | None = None) -> None:
        """Lose the process, or with `boot` the whole boot."""
        self.engine._lock.release()
        if boot is not None:
            serve_node.put(self.root / "proc/sys/kernel/random/boot_id", boot)
            self.now = 20.0
            (self.root / "run/imgnode/serve.json").unlink(missing_ok=True)
        self.engine = self.new_engine()

    def rounds(self, seconds: float, findings: Iterable[Finding] | None = None) -> None:
        """Let the health loop go round for so long."""
        if findings is not None:
            self.findings = list(findings)
        end = self.now + seconds
        while self.now < end:
            self.engine.consider(self.findings, self.now)
            self.now += _ROUND_S
            self.wall += _ROUND_S

    def says(self, state: str, **more: Any) -> None:  # noqa: ANN401 - JSON
        """Have the service say how it stands."""
        told = {"state": state, "phase": None, "text": state, "began": self.now + 0.5}
        told |= {"since": int(self.wall), "starts_failed": 0, "fallback": False, "error": None}
        serve_node.put(self.root / "run/imgnode/serve.json", {**told, **more})

    def steps(self) -> list[str]:
        """Return the steps that the history has, in order."""
        return [one["step"] for one in history.read(self.root) if one["event"] == "step"]

    def events(self) -> list[str]:
        """Return the events but for the steps."""
        return [one["event"] for one in history.read(self.root) if one["event"] != "step"]

    def told(self) -> dict[str, Any]:
        value: dict[str, Any] = json.loads((self.root / "run/imgnode/recover.json").read_text())
        return value

    def prom(self) -> str:
        return (self.root / "run/imgnode/metrics/recover.prom").read_text()

    def _ask(self, unit: str) -> Unit:
        return self.units.get(unit, Unit("active", busy=False))

    def _start(self, argv: Sequence[str]) -> Child:
        line = " ".join(argv)
        self.ran.append(line)
        if self.mends(line):
            self.findings = []
        if line == "systemctl --no-block start vllm.service" and self.serves is not None:
            self.says("serving" if self.serves else "failed")
        rc, seconds = next((one for key, one in self.programs.items() if key in line), (0, 0.0))
        return Child(self, rc, seconds)
