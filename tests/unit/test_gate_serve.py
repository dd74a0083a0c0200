"""The gate's look at serving: what it waits for, and what it decides."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from imgnode.fault import Fault
from imgnode.gate import quarantine, systemd
from imgnode.gate.checks import serve
from imgnode.gate.checks.serve import ServeCheck, Unit
from imgnode.gate.finding import CONFIG, EXTERNAL, IMAGE, OK, Look
from imgnode.serve import choice, probe, report
from imgnode.serve.choice import Attempt, Choice
from imgnode.serve.report import Reporter
from tests.unit import serve_node

WANTED = {"model": "org/wanted"}
PROVEN = {"model": "org/proven"}


class Stage:
    """One node: what the service says, how systemd sees it, what the server answers."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.unit = Unit("activating", 0, queued=True)
        self.answer: str | None = None
        self.asked: list[dict[str, Any]] = []
        self.check = ServeCheck(root, unit=lambda: self.unit, ask=self._ask)

    def _ask(self, told: dict[str, Any], _root: Path) -> str | None:
        self.asked.append(told["in_force"]["settings"])
        return self.answer

    def reporter(self, in_force: dict[str, Any] = WANTED, error: str | None = None) -> Reporter:
        attempt = Attempt(3, error, "the words of vLLM") if error else Attempt()
        return Reporter(Choice(WANTED, in_force, attempt), 1.0, self.root)

    def failed(self, kind: str, restarts: int, in_force: dict[str, Any] = WANTED) -> Look:
        self.unit = Unit("activating", restarts, queued=False)
        self.reporter(in_force).failed(Fault(kind, "the words of vLLM"), restarts + 1)
        return self.check.look()


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    return Stage(serve_node.make(tmp_path, WANTED))


def prove(stage: Stage, settings: dict[str, Any], version: str) -> None:
    choice.save_proven(settings, 1.0, version, stage.root)


def decided(look: Look) -> tuple[str, str]:
    assert look.waiting is None
    (one,) = look.findings
    return one.whose, one.fact


def waits(look: Look) -> tuple[str, str, bool]:
    assert look.findings == ()
    assert look.waiting is not None
    return look.waiting.text, look.waiting.late.whose, look.waiting.free


def test_a_token_of_its_own_is_what_counts(stage: Stage) -> None:
    stage.reporter().serving("serving org/wanted, first token after 30 s", 30.0)
    assert decided(stage.check.look()) == (OK, "serving org/wanted, first token after 30 s")
    assert stage.asked == [WANTED]


def test_a_quarantine_that_lasts_is_told_and_waited_for_by_nobody(stage: Stage) -> None:
    stage.unit = Unit("inactive", 0, queued=False)
    serve_node.put(stage.root / quarantine.LASTING, "the board smells\n")
    told = (OK, "nothing is served, in quarantine: the board smells")
    assert decided(stage.check.look()) == told


def test_a_server_that_only_says_so(stage: Stage) -> None:
    stage.reporter().serving("serving", 30.0)
    stage.answer = "timed out"
    for _ in range(4):
        assert waits(stage.check.look())[:2] == ("asking for a token: timed out", CONFIG)
    whose, fact = decided(stage.check.look())
    assert whose == CONFIG
    assert "timeout: no token, though it says it serves: timed out" in fact


def test_loading_is_progress_and_fetching_is_free(stage: Stage) -> None:
    text, late, free = waits(stage.check.look())
    assert (text, late, free) == ("the service starts", IMAGE, False)
    stage.reporter().loading("loading org/wanted: 90 s")
    assert waits(stage.check.look()) == ("loading org/wanted: 90 s", CONFIG, False)
    stage.reporter().loading("fetching a: b (1 of 2)", phase=report.FETCH)
    assert waits(stage.check.look()) == ("fetching a: b (1 of 2)", EXTERNAL, True)


def test_nothing_to_serve_is_good(stage: Stage) -> None:
    report.skipped(stage.root)
    assert waits(stage.check.look())[0] == "the service starts"  # it may be about to start
    stage.unit = Unit("inactive", 0, queued=False)
    assert decided(stage.check.look())[0] == OK
    assert "no model in its config" in decided(stage.check.look())[1]


def test_a_service_that_somebody_stopped_is_no_fault(stage: Stage) -> None:
    stage.reporter().stopped()
    assert waits(stage.check.look())[0] == "the service starts"
    stage.unit = Unit("inactive", 0, queued=False)
    assert decided(stage.check.look())[0] == OK


def test_a_service_that_cannot_be_started_is_the_images(stage: Stage) -> None:
    stage.unit = Unit("failed", 0, queued=False)
    assert decided(stage.check.look())[0] == IMAGE


@pytest.mark.parametrize(
    ("version", "whose", "words"),
    [
        (None, CONFIG, "this config has never made a token"),
        ("x_1", EXTERNAL, "this version has served this config before"),
        ("x_0", IMAGE, "x_0 served it"),
    ],
)
def test_three_starts_then_it_is_decided_by_who_served_it(
    stage: Stage, version: str | None, whose: str, words: str
) -> None:
    if version:
        prove(stage, WANTED, version)
    for restarts in range(2):
        assert waits(stage.failed("container", restarts))[1] == whose
    found, fact = decided(stage.failed("container", 2))
    assert found == whose
    assert fact == f"container: the words of vLLM; {words}"


def test_a_start_that_took_all_its_time_is_not_waited_for_again(stage: Stage) -> None:
    prove(stage, WANTED, "x_0")
    assert decided(stage.failed("timeout", 0))[0] == IMAGE


def test_the_last_good_config_is_waited_for(stage: Stage) -> None:
    prove(stage, PROVEN, "x_0")
    for restarts in range(3):
        assert waits(stage.failed("timeout", restarts))[1] == CONFIG
    stage.reporter(PROVEN, "timeout").loading("loading org/proven")
    assert waits(stage.check.look())[1] == IMAGE  # should it hang: another version served it
    stage.reporter(PROVEN, "config").serving("serving org/proven", 9.0)
    whose, fact = decided(stage.check.look())
    assert whose == CONFIG
    assert "not the wanted one (config: the words of vLLM)" in fact
    assert stage.asked == [PROVEN]


def test_a_last_good_config_that_fails_too_is_the_images(stage: Stage) -> None:
    prove(stage, PROVEN, "x_0")
    waits(stage.failed("config", 2))
    assert decided(stage.failed("container", 3, PROVEN))[0] == IMAGE


def test_a_fault_of_the_wanted_config_is_not_laid_on_the_last_good_one(stage: Stage) -> None:
    prove(stage, PROVEN, "x_1")
    waits(stage.failed("docker", 2))
    stage.reporter(PROVEN).loading("loading org/proven")
    look = stage.check.look()
    assert waits(look)[1] == EXTERNAL
    assert look.waiting is not None
    assert look.waiting.late.fact.startswith("timeout: no token came; ")


def test_a_mirror_that_is_down_is_nobodys_fault_here(stage: Stage) -> None:
    prove(stage, PROVEN, "x_0")
    stage.reporter(PROVEN, "fetch").serving("serving org/proven", 9.0)
    assert decided(stage.check.look())[0] == EXTERNAL


def test_dockers_faults_do_not_count_as_starts_but_end_the_wait(stage: Stage) -> None:
    prove(stage, PROVEN, "x_0")
    for restarts in range(5):
        waits(stage.failed("docker", restarts))
    assert decided(stage.failed("docker", 5))[0] == IMAGE


def test_the_token_is_asked_for_as_the_seed_says(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[int, str, str | None]] = []

    def token(port: int, name: str, key: str | None, **_: float) -> None:
        asked.append((port, name, key))

    monkeypatch.setattr(probe, "token", token)
    settings = {**WANTED, "served_name": "chat", "api_key": {"secret": "key"}}
    told = {"in_force": {"settings": settings}}
    assert "the secret 'key' is not on this node" in (serve.ask_token(told, stage.root) or "")
    serve_node.put(stage.root / "etc/credstore/imgnode.key", "SECRET\n")
    assert serve.ask_token(told, stage.root) is None
    assert asked == [(8000, "chat", "SECRET")]


def test_how_systemd_tells_of_the_service(monkeypatch: pytest.MonkeyPatch) -> None:
    told = {"ActiveState": "inactive", "NRestarts": "2", "Job": "71"}
    monkeypatch.setattr(systemd, "properties", lambda *_: told)
    assert serve.read_unit() == Unit("inactive", 2, queued=True)
    told.update(NRestarts="", Job="")
    assert serve.read_unit() == Unit("inactive", 0, queued=False)
