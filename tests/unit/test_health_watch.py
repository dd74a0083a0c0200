"""The loop: its rounds, checks that hang or break, and how it is all told. Time is a number."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from imgnode import cli
from imgnode.commands import health as command
from imgnode.health import report, watch
from imgnode.health.contract import Finding, Level, Remedy
from imgnode.health.slot import HANG_S, Slot
from imgnode.health.watch import Watch
from tests.unit import serve_node
from tests.unit.serve_node import put

LOW = Finding("a", "low", Level.WARNING, "little is left", "make room")
DEAD = Finding("serve", "dead", Level.FAILED, "it is gone", None, Remedy.SERVE)


@dataclass
class Check:
    """A check that finds what the test says."""

    name: str = "a"
    every_s: float = 10.0
    found: list[Finding] | Exception = field(default_factory=list)
    looks: list[float] = field(default_factory=list)

    def supported(self) -> bool:
        return True

    def look(self, now: float) -> list[Finding]:
        self.looks.append(now)
        if isinstance(self.found, Exception):
            raise self.found
        return self.found


class Serve(Check):
    def tell(self) -> Mapping[str, object]:
        return {"class": "idle", "figures": {"running": 0}}


@dataclass
class Stage:
    """A loop whose looks end at once, unless `hangs` names their check."""

    root: Path
    checks: Sequence[Check]
    now: float = 1000.0
    hangs: set[str] = field(default_factory=set)
    acted: list[tuple[list[Finding], float]] = field(default_factory=list)
    left: list[Callable[[], None]] = field(default_factory=list)
    busy: bool = False

    def __post_init__(self) -> None:
        slots = [
            Slot(one, HANG_S, self._beside(one), self.clock, self.clock) for one in self.checks
        ]
        self.watch = Watch(slots, self, self.root, self.clock)

    def clock(self) -> float:
        return self.now

    def consider(self, findings: Sequence[Finding], now: float) -> None:
        self.acted.append((list(findings), now))

    def _beside(self, check: Check) -> Callable[[Callable[[], None]], None]:
        return lambda work: self.left.append(work) if check.name in self.hangs else work()

    def _wait(self, seconds: float) -> None:
        self.now += seconds

    def round(self) -> dict[str, Any]:
        self.now += 10
        began = self.now
        self.watch.round(self._wait)
        self.now = max(self.now, began)
        told = report.read(self.root)
        assert told is not None
        return told


def keys(told: dict[str, Any], check: str) -> list[str]:
    return [one["key"] for one in told["checks"][check]["findings"]]


def test_a_round_is_told_and_acted_upon(tmp_path: Path) -> None:
    stage = Stage(tmp_path, [Check(found=[LOW]), Serve("serve", found=[DEAD])])
    told = stage.round()
    assert (told["level"], told["silenced"]) == ("failed", False)
    assert told["checks"]["a"]["findings"] == [
        {
            "check": "a", "key": "low", "level": "warning", "fact": "little is left",
            "hint": "make room", "remedy": "none", "unit": None, "gpus": [], "evidence": {},
        }
    ]  # fmt: skip
    assert told["checks"]["serve"]["class"] == "idle"
    assert stage.acted == [([LOW, DEAD], stage.now)]
    text = (tmp_path / "run/imgnode/metrics/health.prom").read_text()
    assert 'imgnode_health_level{check="a"} 1\n' in text
    assert 'imgnode_health_level{check="serve"} 2\n' in text
    assert 'imgnode_health_finding{check="serve",key="dead"} 1\n' in text
    assert 'imgnode_serve_class{class="idle"} 1\n' in text
    assert 'imgnode_serve_class{class="stalled"} 0\n' in text


def test_each_check_has_its_own_pace(tmp_path: Path) -> None:
    fast, slow = Check("a"), Check("b", every_s=60)
    stage = Stage(tmp_path, [fast, slow])
    for _ in range(13):
        stage.round()
    assert (len(fast.looks), len(slow.looks)) == (13, 3)
    stage.now -= 0.2  # a round that comes a little early counts
    stage.round()
    assert len(fast.looks) == 14


def test_a_check_that_hangs_is_a_finding_and_stops_no_other(tmp_path: Path) -> None:
    stuck, other = Check("a", found=[LOW]), Check("b")
    stage = Stage(tmp_path, [stuck, other])
    stage.round()
    stage.hangs.add("a")
    told = stage.round()
    assert keys(told, "a") == ["low"]
    for _ in range(6):
        told = stage.round()
    assert keys(told, "a") == ["low", "hang"]
    assert told["level"] == "failed"
    assert len(stage.left) == 1  # no second look is begun while one hangs
    assert len(other.looks) == 8
    stage.hangs.clear()
    stage.left.pop()()
    told = stage.round()
    assert keys(told, "a") == ["low"]


def test_a_check_that_hangs_from_the_beginning(tmp_path: Path) -> None:
    stage = Stage(tmp_path, [Check("a")], hangs={"a"})
    assert stage.round()["checks"] == {}
    for _ in range(7):
        told = stage.round()
    assert keys(told, "a") == ["hang"]


@pytest.mark.parametrize("error", [OSError(5, "I/O error"), ValueError("x"), KeyError("y")])
def test_a_check_that_breaks_is_a_finding(tmp_path: Path, error: Exception) -> None:
    stage = Stage(tmp_path, [Check("a", found=error), Check("b", found=[LOW])])
    told = stage.round()
    assert keys(told, "a") == ["broken"]
    assert type(error).__name__ in told["checks"]["a"]["findings"][0]["fact"]
    assert keys(told, "b") == ["low"]


def test_a_fault_of_ours_is_one_too(tmp_path: Path) -> None:
    stage = Stage(tmp_path, [Check("a", found=RuntimeError("a mistake"))])
    with pytest.raises(RuntimeError):  # in a thread of its own it goes to the journal
        stage.round()
    stage.checks[0].found = []
    seen = stage.watch.slots[0].seen(stage.now)
    assert seen is not None
    assert [one.key for one in seen.findings] == ["broken"]


def test_what_is_new_and_what_is_over_is_said_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    check = Check(found=[LOW])
    stage = Stage(tmp_path, [check])
    stage.round()
    stage.round()
    check.found = []
    stage.round()
    stage.round()
    assert capsys.readouterr().out == "health: warning: a: little is left\nhealth: over: a: low\n"


def test_maintenance_silences_what_is_still_told(tmp_path: Path) -> None:
    stage = Stage(tmp_path, [Check(found=[LOW])])
    put(tmp_path / "run/imgnode/maintenance", "")
    told = stage.round()
    assert told["silenced"]
    assert keys(told, "a") == ["low"]
    assert report.lines(told, stage.now)[0] == "health   maintenance: nobody is alerted"


def test_systemd_is_told_that_the_loop_lives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[tuple[str, ...]] = []
    monkeypatch.setattr(watch, "notify", lambda *lines: said.append(lines))
    Stage(tmp_path, [Check(found=[LOW])]).round()
    assert said == [("READY=1", "WATCHDOG=1", "STATUS=warning, 1 findings")]


def test_only_what_the_node_has_is_looked_at(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    serve_node.make(tmp_path)
    names = {one.name for one in watch.supported(watch.checks(tmp_path))}
    assert "docker" in names
    assert not names & {"gpu", "layers", "xid", "network"}
    put(tmp_path / "usr/lib/imgnode/payload.json", "damaged")
    assert "layers" in {one.name for one in watch.supported(watch.checks(tmp_path))}
    assert "health: layers: " in capsys.readouterr().err


def call(*words: str) -> int:
    with pytest.raises(SystemExit) as end:
        cli.main(["health", *words])
    assert isinstance(end.value.code, int)
    return end.value.code


def test_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(command, "_ROOT", tmp_path)
    assert call() == 1
    assert capsys.readouterr().out.startswith("health   not watched (hint: ")
    serve = Serve("serve")
    stage = Stage(tmp_path, [Check(found=[LOW]), serve])
    monkeypatch.setattr(time, "time", stage.clock)
    stage.round()
    capsys.readouterr()
    assert call() == 0
    assert capsys.readouterr().out.splitlines() == [
        "a            warning",
        "  warning: little is left (hint: make room)",
        "serve        ok (idle)",
    ]
    assert report.short(report.read(tmp_path), stage.now) == ["health   warning: a: little is left"]
    serve.found = [DEAD]
    stage.round()
    capsys.readouterr()
    assert call("--json") == 1
    assert json.loads(capsys.readouterr().out)["checks"]["serve"]["level"] == "failed"
    serve.found = stage.checks[0].found = []
    stage.round()
    assert report.short(report.read(tmp_path), stage.now) == ["health   ok: 2 checks"]
    stage.now += report.STALE_S + 1
    capsys.readouterr()
    assert call() == 1
    assert capsys.readouterr().out.startswith("health   STALE: 121 s old")


def test_the_loop_becomes_a_process_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    became: list[tuple[str, tuple[str, ...]]] = []
    monkeypatch.setattr(os, "execv", lambda path, words: became.append((path, words)))
    cli.main(["health", "watch"])
    assert became == [(sys.executable, (sys.executable, "-P", "-m", "imgnode.health"))]
