"""The health of serving: a real server on loopback does what the test says, time is a number."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from imgnode.fault import Fault
from imgnode.gate import quarantine
from imgnode.health import prober as prober_module
from imgnode.health.checks import serve
from imgnode.health.checks.serve import ServeCheck
from imgnode.health.contract import Finding, Level, Remedy
from imgnode.health.prober import EVERY_S, Prober
from imgnode.health.progress import Class
from imgnode.serve import probe
from tests.unit import serve_node
from tests.unit.standin import Script, served


class Stage:
    """One node, looked at each ten seconds."""

    def __init__(self, root: Path, server: Script, monkeypatch: pytest.MonkeyPatch) -> None:
        self._patch = monkeypatch
        self._patch.setattr(serve, "_SCRAPE_S", 60.0)  # however slow the machine of the test is
        self.root, self.server = root, server
        self.now = 1000.0
        self.cpu: float | None = 10.0
        self.unit = {"ActiveState": "active", "Job": ""}
        self.later: list[Callable[[], None]] = []
        prober = Prober(root, beside=self.later.append)
        self.check = ServeCheck(
            root, unit=lambda: self.unit, cpu=lambda: self.cpu, prober=prober, clock=self.clock
        )
        self.prober = prober

    def silence(self) -> None:
        """Let the server take connections and never answer: no limit is too short for that."""
        self.server.silent = True
        self._patch.setattr(serve, "_SCRAPE_S", 0.02)

    def clock(self) -> float:
        return self.now

    def look(self, *, uses: float = 0.5) -> list[Finding]:
        self.now += 10
        if self.cpu is not None:
            self.cpu += uses * 10
        return self.check.look(self.now)

    def looks(self, count: int, *, uses: float = 0.5) -> list[Finding]:
        """Return what the last of so many looks found."""
        found: list[Finding] = []
        for _ in range(count):
            found = self.look(uses=uses)
        return found

    @property
    def verdict(self) -> Class:
        return self.check.verdict

    def answer_probe(self) -> None:
        self.later.pop()()

    def told(self, state: str, **more: Any) -> None:  # noqa: ANN401 - whatever serve.json has
        values = {
            "state": state, "phase": "load", "text": "x", "began": 1.0, "since": 1,
            "in_force": {"settings": {"model": "org/m"}, "digest": "1"}, "error": None,
            "image_copied": False, **more,
        }  # fmt: skip
        serve_node.put(self.root / "run/imgnode/serve.json", values)

    def process(self, alive: bool) -> None:
        """Have the runner live, or not."""
        procs = self.root / "sys/fs/cgroup/system.slice/vllm.service/cgroup.procs"
        serve_node.put(procs, "123\n" if alive else "")


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stage]:
    with served(monkeypatch) as script:
        facts = {**serve_node.SERVE, "port": script.port}
        made = Stage(serve_node.make(tmp_path, serve=facts), script, monkeypatch)
        made.told("serving")
        made.process(alive=True)
        yield made


def only(found: list[Finding]) -> tuple[str, Level, Remedy]:
    (one,) = found
    assert one.check == "serve"
    return one.key, one.level, one.remedy


def test_it_serves(stage: Stage) -> None:
    stage.server.running, stage.server.tokens = 2, 10
    assert stage.look() == []
    stage.server.tokens = 60
    assert stage.look() == []
    assert stage.verdict is Class.SERVING
    told = stage.check.tell()
    assert told["class"] == "serving"
    assert told["figures"] == {
        "still_s": 0, "cpu_s": 20.0, "running": 2, "waiting": 0, "generation_tokens": 60,
        "prompt_tokens": 0, "tokens_per_s": 5.0,
    }  # fmt: skip


def test_a_server_that_is_stopped_is_stalled(stage: Stage) -> None:
    """As by SIGSTOP: connections are taken, nothing is answered, no processor is used."""
    stage.looks(3)
    stage.silence()
    assert stage.looks(2, uses=0.0) == []
    assert only(stage.looks(2, uses=0.0)) == ("stalled", Level.FAILED, Remedy.SERVE)
    assert stage.verdict is Class.STALLED


def test_a_busy_server_that_is_slow_to_answer_is_saturated(stage: Stage) -> None:
    stage.server.running = 9
    stage.look()
    stage.silence()
    for _ in range(12):
        assert stage.look(uses=1.5) == []
        assert stage.verdict is Class.SATURATED


def test_requests_that_run_without_a_token_are_a_stall(stage: Stage) -> None:
    stage.server.running, stage.server.waiting = 2, 5
    stage.look()
    found = stage.looks(5, uses=0.0)
    assert only(found) == ("stalled", Level.FAILED, Remedy.SERVE)
    assert found[0].fact == "stalled: 2 requests run, 5 wait, and no token for 50 s"
    assert found[0].evidence["running"] == 2
    stage.server.tokens += 1
    assert stage.look() == []


def test_ten_minutes_of_saturation_are_no_fault(stage: Stage) -> None:
    stage.server.running, stage.server.waiting = 64, 500
    for _ in range(60):
        stage.server.tokens += 30
        assert stage.look(uses=3.0) == []
    assert stage.verdict is Class.SATURATED


def test_with_gpus_an_engine_that_spins_is_a_stall(stage: Stage) -> None:
    gpu: dict[str, Any] = {"gpu": {"mig": None}, "gpu_runtime": "devices"}
    facts = {**serve_node.SERVE, "port": stage.server.port}
    serve_node.make(stage.root, serve=facts, **gpu)
    stage.server.running = 1
    stage.look()
    assert stage.looks(11, uses=1.0) == []
    assert only(stage.look(uses=1.0)) == ("stalled", Level.FAILED, Remedy.SERVE)


def test_an_idle_server_is_asked_for_a_token_now_and_then(stage: Stage) -> None:
    stage.looks(1)
    stage.looks(int(EVERY_S / 10) - 1)
    assert stage.later == []
    stage.look()
    assert len(stage.later) == 1
    stage.now += 0.5
    stage.answer_probe()
    assert stage.check.tell()["probe"] == {"seconds": 0.5, "said": None}
    verb, path, _, body = stage.server.asked[-1]
    assert (verb, path) == ("POST", "/v1/completions")
    assert b'"max_tokens": 1' in body
    assert stage.look() == []
    assert stage.verdict is Class.IDLE
    stage.looks(4)
    assert stage.later == []
    stage.look()
    assert len(stage.later) == 1


def test_an_engine_that_hangs_while_nobody_asks(stage: Stage) -> None:
    """Its gauges say that nothing runs; only our own request shows that nothing comes."""
    stage.looks(7)
    assert len(stage.later) == 1
    assert stage.looks(3, uses=0.0) == []
    assert only(stage.look(uses=0.0)) == ("stalled", Level.FAILED, Remedy.SERVE)
    assert len(stage.later) == 1


def test_a_token_that_is_slow_to_come_is_still_owed(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probe, "token", lambda *_, **__: probe.TIMED_OUT)
    stage.looks(7)
    stage.answer_probe()
    assert stage.prober.owed
    assert stage.looks(5, uses=0.9) == []
    assert stage.later == []
    assert only(stage.looks(4, uses=0.0)) == ("stalled", Level.FAILED, Remedy.SERVE)
    stage.server.tokens += 1
    assert stage.look() == []
    assert not stage.prober.owed


def test_one_question_at_a_time(stage: Stage) -> None:
    stage.looks(7)
    stage.server.tokens += 1  # others are served meanwhile: nothing is owed any more
    assert stage.looks(10, uses=0.0) == []
    assert stage.verdict is Class.IDLE
    assert len(stage.later) == 1


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        ((500, {"error": "EngineDeadError"}), ("token", Level.FAILED, Remedy.SERVE)),
        ((200, {"usage": {"completion_tokens": 0}}), ("token", Level.FAILED, Remedy.SERVE)),
        ((401, {"error": "Unauthorized"}), ("token", Level.WARNING, Remedy.NONE)),
        ((404, {"error": "no such model"}), ("token", Level.WARNING, Remedy.NONE)),
    ],
)
def test_a_token_that_is_refused_twice(
    stage: Stage, answer: tuple[int, object], told: tuple[str, Level, Remedy]
) -> None:
    stage.server.completion = answer
    stage.looks(7)
    stage.answer_probe()
    assert stage.looks(6) == []
    stage.answer_probe()
    assert only(stage.look()) == told
    stage.server.completion = (200, {"usage": {"completion_tokens": 1}})
    stage.looks(5)
    stage.answer_probe()
    assert stage.look() == []


def test_a_key_that_is_missing_is_nobodys_stall(stage: Stage) -> None:
    settings = {"model": "org/m", "api_key": {"secret": "key"}}
    stage.told("serving", in_force={"settings": settings, "digest": "1"})
    stage.looks(7)
    stage.answer_probe()
    stage.looks(6)
    stage.answer_probe()
    found = stage.look()
    assert only(found) == ("token", Level.WARNING, Remedy.NONE)
    assert "the secret 'key' is not on this node" in found[0].fact


def test_the_token_is_asked_for_by_name_and_key(stage: Stage) -> None:
    serve_node.put(stage.root / "etc/credstore/imgnode.key", "SECRET\n")
    settings = {"model": "org/m", "served_name": "chat", "api_key": {"secret": "key"}}
    assert prober_module.ask_token(settings, stage.root) is None
    _, _, headers, body = stage.server.asked[-1]
    assert headers["Authorization"] == "Bearer SECRET"
    assert b'"chat"' in body
    with pytest.raises(Fault):
        prober_module.ask_token({**settings, "api_key": {"secret": "other"}}, stage.root)


def test_a_server_without_vllms_metrics_is_judged_by_tokens(stage: Stage) -> None:
    stage.server.metrics = "python_info 1\n"
    assert stage.looks(7, uses=0.0) == []
    assert stage.verdict is Class.IDLE
    assert len(stage.later) == 1


def test_nobody_listens_though_it_says_it_serves(stage: Stage) -> None:
    stage.look()
    stage.server.cut = True
    assert stage.look() == []
    assert only(stage.look()) == ("dead", Level.FAILED, Remedy.SERVE)
    assert stage.verdict is Class.DEAD


@pytest.mark.parametrize(
    ("state", "verdict"), [("deactivating", Class.OFF), ("activating", Class.LOADING)]
)
def test_a_server_that_is_being_stopped_is_not_dead(
    stage: Stage, state: str, verdict: Class
) -> None:
    stage.look()
    stage.server.cut = True
    stage.unit["ActiveState"] = state
    assert stage.looks(3) == []
    assert stage.verdict is verdict


@pytest.mark.parametrize(
    ("kind", "remedy"),
    [
        ("container", Remedy.SERVE), ("timeout", Remedy.SERVE), ("docker", Remedy.DOCKER),
        ("config", Remedy.CONFIG), ("secret", Remedy.NONE), ("fetch", Remedy.NONE),
        ("memory", Remedy.NONE), ("hardware", Remedy.NONE),
    ],
)  # fmt: skip
def test_a_server_that_ended_is_started_again_by_systemd(
    stage: Stage, kind: str, remedy: Remedy
) -> None:
    """Only what lasts is more than that."""
    stage.told("failed", error={"kind": kind, "text": "exit code 137"})
    stage.process(alive=False)
    stage.unit["ActiveState"] = "activating"
    assert only(stage.look()) == ("dead", Level.WARNING, Remedy.NONE)
    assert only(stage.looks(6)) == ("dead", Level.FAILED, remedy)


def test_a_server_that_ends_again_and_again(stage: Stage) -> None:
    for since in range(3):
        stage.told("failed", error={"kind": "container", "text": "x"}, since=since)
        found = stage.look()
        stage.told("loading", since=since)
        loading = stage.look()
    assert only(found) == ("dead", Level.FAILED, Remedy.SERVE)
    assert only(loading) == ("restarts", Level.WARNING, Remedy.NONE)
    assert stage.verdict is Class.LOADING
    stage.told("serving")
    assert stage.look() == []
    stage.told("loading")
    assert stage.look() == []


def test_a_model_may_load_for_as_long_as_the_profile_says(stage: Stage) -> None:
    stage.told("loading")
    assert stage.look() == []
    assert stage.verdict is Class.LOADING
    stage.now += 1180  # start_timeout_s of the profile, and ten minutes
    assert stage.look() == []
    assert only(stage.looks(2)) == ("loading", Level.FAILED, Remedy.SERVE)


@pytest.mark.parametrize("phase", ["fetch", "copy"])
def test_fetching_takes_what_it_takes(stage: Stage, phase: str) -> None:
    stage.told("loading", phase=phase)
    for _ in range(10):
        stage.now += 3600
        assert stage.look() == []


@pytest.mark.parametrize(
    ("state", "unit", "verdict", "keys"),
    [
        (None, {"ActiveState": "inactive", "Job": "7"}, Class.LOADING, []),
        (None, {"ActiveState": "activating", "Job": ""}, Class.LOADING, []),
        ("skipped", {"ActiveState": "inactive", "Job": ""}, Class.OFF, []),
        ("stopped", {"ActiveState": "inactive", "Job": ""}, Class.OFF, ["stopped"]),
        ("serving", {"ActiveState": "failed", "Job": ""}, Class.DEAD, ["dead"]),
        ("serving", {"ActiveState": "inactive", "Job": ""}, Class.DEAD, ["dead"]),
    ],
)
def test_a_service_without_a_process(
    stage: Stage, state: str | None, unit: dict[str, str], verdict: Class, keys: list[str]
) -> None:
    stage.process(alive=False)
    stage.unit.update(unit)
    if state is None:
        (stage.root / "run/imgnode/serve.json").unlink()
    else:
        stage.told(state)
    assert [one.key for one in stage.look()] == keys
    assert stage.verdict is verdict


def test_quarantine_is_told(stage: Stage) -> None:
    stage.process(alive=False)
    stage.unit["ActiveState"] = "inactive"
    serve_node.put(stage.root / quarantine.FILE, "GPU 3 is lost\n")
    found = stage.look()
    assert only(found) == ("quarantine", Level.FAILED, Remedy.NONE)
    assert found[0].fact == "in quarantine: GPU 3 is lost"
    assert stage.verdict is Class.OFF


def test_another_start_begins_anew(stage: Stage) -> None:
    stage.server.running = 1
    stage.look()
    assert only(stage.looks(5, uses=0.0)) == ("stalled", Level.FAILED, Remedy.SERVE)
    stage.told("serving", began=2.0)
    assert stage.look(uses=0.0) == []
