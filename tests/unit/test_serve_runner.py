"""One start of the service, each way that it can go; Docker, the server and time are played."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from imgnode import process
from imgnode.fault import CONTAINER, DOCKER, FETCH, MEMORY, Fault
from imgnode.layers.report import Report
from imgnode.problems import Problem
from imgnode.process import Finished
from imgnode.serve import cache, choice, diagnose, docker, override, probe, runner
from imgnode.serve import report as reports
from imgnode.serve.override import Override
from tests.unit.serve_node import BUNDLE, MODEL, REFERENCE, make, prom, put, seed, told

GOOD, LONG = {"model": MODEL}, {"model": MODEL, "max_model_len": 1 << 20}
Poll = Callable[[], int | None]


class Stage:
    """Plays everything outside: `polls` are the child's answers, a number ends it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.now = 1000.0
        self.polls: list[Any] = [None, None, None, runner.Stopped()]
        self.health: list[str | None] = []
        self.token: list[str | None] = []
        self.known = [True]
        self.version: str | None = None
        self.copy = "none"
        self.seen: dict[str, Any] = {}
        self.end = Fault(CONTAINER, "exit code 1")
        self.output: list[str] = []
        self.log: list[str] = []
        self.env: dict[str, str] = {}
        self.words: list[str] = []
        self.notified: list[str] = []

    def wait(self, *, timeout_s: float) -> int | None:
        self.now += min(timeout_s, 2)
        answer = self.polls.pop(0) if self.polls else None
        if isinstance(answer, BaseException):
            raise answer
        assert answer is None or isinstance(answer, int)
        return answer

    def kill(self) -> None:
        self.log.append("kill")

    @property
    def pid(self) -> int:
        return 77

    def said(self, pid: int) -> list[str]:
        assert pid == self.pid
        return self.output

    def image_is_known(self, reference: str) -> bool:
        if reference == self.copy:
            return True
        assert reference == REFERENCE
        return self.known.pop(0) if len(self.known) > 1 else self.known[0]

    def heal(self, _root: Path) -> Report:
        self.log.append("heal")
        return Report(others=(Problem("docker", "a layer is missing"),))

    def pipe(self, *_: list[str], timeout_s: float) -> tuple[Finished, Finished]:
        assert timeout_s > self.now
        self.log.append("copy")
        self.seen = told(self.root)
        self.copy = "sha256:copy"
        return Finished(0, "", ""), Finished(0, f"{self.copy}\n", "")

    def start(self, words: list[str], env: dict[str, str]) -> Stage:
        self.log.append("start")
        self.words, self.env = words, env
        return self

    def note(self, word: str) -> Callable[[], None]:
        return lambda: self.log.append(word)

    def answer(self, answers: list[str | None]) -> str | None:
        return answers.pop(0) if answers else None


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stage:
    made = Stage(make(tmp_path))
    monkeypatch.setattr(docker, "image_is_known", made.image_is_known)
    monkeypatch.setattr(docker, "remove_container", made.note("remove"))
    monkeypatch.setattr(docker, "ensure_network", made.note("network"))
    monkeypatch.setattr(docker, "start_container", made.start)
    monkeypatch.setattr(docker, "stop_container", made.note("stop"))
    monkeypatch.setattr(docker, "why_it_ended", lambda *_: made.end)
    monkeypatch.setattr(docker, "version", lambda: made.version)
    monkeypatch.setattr(docker, "storage_driver", lambda: "overlay2")
    monkeypatch.setattr(docker, "tag_image", lambda *_: None)
    monkeypatch.setattr(docker, "remove_nameless", lambda: None)
    monkeypatch.setattr(process, "run", lambda *_, **__: Finished(0, "", ""))
    monkeypatch.setattr(process, "pipe", made.pipe)
    monkeypatch.setattr(runner, "heal", made.heal)
    monkeypatch.setattr(probe, "health", lambda *_, **__: made.answer(made.health))
    monkeypatch.setattr(probe, "token", lambda *_, **__: made.answer(made.token))
    monkeypatch.setattr(diagnose, "read_output", made.said)
    monkeypatch.setattr(time, "monotonic", lambda: made.now)
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    monkeypatch.setattr(os, "chown", lambda *_: None)
    monkeypatch.setattr("imgnode.serve.report.notify", lambda *lines: made.notified.extend(lines))
    return made


def fails(stage: Stage, polls: list[Any]) -> int:
    stage.polls = polls
    return runner.serve(stage.root)


def test_from_the_config_to_the_first_token(stage: Stage) -> None:
    stage.health = ["refused", "refused"]
    stage.token = ["HTTP 503"]
    stage.polls = [None] * 6 + [runner.Stopped(), 0]
    assert runner.serve(stage.root) == 0
    assert stage.log == ["remove", "network", "start", "stop"]
    assert stage.notified[:2] == ["STATUS=starting", f"STATUS=loading {MODEL}: 2 s"]
    assert stage.notified[-2:] == [
        "READY=1",
        f"STATUS=serving {MODEL}, first token after 8 s",
    ]
    assert choice.load_proven(stage.root) == GOOD
    assert choice.load_attempt(GOOD, stage.root).count == 0
    assert told(stage.root)["state"] == "stopped"
    assert f"--mount=type=bind,src={stage.root}/run/imgnode/layers/{BUNDLE}" in str(stage.words)


def test_what_is_told_while_it_serves(stage: Stage) -> None:
    seen: list[dict[str, Any]] = []

    def look() -> None:
        seen.append({**told(stage.root), **prom(stage.root)})

    stage.polls = [None, None]
    stage.end = Fault(CONTAINER, "exit code 0")
    genuine = stage.wait

    def wait(*, timeout_s: float) -> int | None:
        if choice.load_proven(stage.root):
            look()
            return 0
        return genuine(timeout_s=timeout_s)

    stage.wait = wait  # type: ignore[method-assign]
    assert runner.serve(stage.root) == 1
    (serving,) = seen
    assert (serving["state"], serving["fallback"], serving["ready_seconds"]) == (
        "serving",
        False,
        2,
    )
    assert serving['imgnode_serve_state{state="serving"}'] == 1
    assert serving['imgnode_serve_state{state="loading"}'] == 0
    assert serving["imgnode_model_ready_seconds"] == 2
    assert serving["imgnode_serve_config_fallback"] == 0
    after = prom(stage.root)
    assert after['imgnode_serve_state{state="failed"}'] == 1
    assert after["imgnode_serve_starts_failed"] == 0  # it had come up: the config is not at fault
    assert "imgnode_model_ready_seconds" not in after


def test_a_config_that_does_not_come_up_gives_way_to_the_proven_one(
    stage: Stage, capfd: pytest.CaptureFixture[str]
) -> None:
    choice.save_proven(GOOD, 1.0, "x_1", stage.root)
    seed(stage.root, LONG)
    stage.output = ["  Value error, max_model_len is too long [type=value_error, input]"]
    for number in (1, 2, 3):
        assert fails(stage, [1]) == 1
        assert told(stage.root)["error"] == {
            "kind": "config",
            "text": "vLLM: max_model_len is too long",
        }
        assert prom(stage.root)["imgnode_serve_starts_failed"] == number
        assert not told(stage.root)["fallback"]
    capfd.readouterr()
    assert fails(stage, [None, runner.Stopped()]) == 0
    assert "--max-model-len=1048576" not in stage.words
    assert told(stage.root)["fallback"]
    assert told(stage.root)["wanted"]["settings"] == LONG
    assert told(stage.root)["in_force"]["settings"] == GOOD
    assert told(stage.root)["error"]["kind"] == "config"
    assert prom(stage.root)["imgnode_serve_config_fallback"] == 1
    assert prom(stage.root)["imgnode_serve_starts_failed"] == 3
    loud = "FALLBACK: HuggingFaceTB/SmolLM2-135M-Instruct did not come up 3 times"
    assert f"<3>{loud}" in capfd.readouterr().err
    assert loud in stage.notified[-1]
    assert "max_model_len is too long" in stage.notified[-1]
    seed(stage.root, {**LONG, "max_model_len": 64})  # a new seed: three tries of its own
    assert fails(stage, [None, runner.Stopped()]) == 0
    assert not told(stage.root)["fallback"]
    assert choice.load_proven(stage.root) == {**LONG, "max_model_len": 64}


def test_without_a_proven_config_it_keeps_trying(stage: Stage) -> None:
    for _ in range(5):
        assert fails(stage, [1]) == 1
    assert prom(stage.root)["imgnode_serve_starts_failed"] == 5
    assert not told(stage.root)["fallback"]
    assert fails(stage, [None, runner.Stopped()]) == 0
    assert choice.load_attempt(GOOD, stage.root).count == 0


def test_a_missing_secret_needs_no_docker(stage: Stage, capfd: pytest.CaptureFixture[str]) -> None:
    seed(stage.root, {**GOOD, "api_key": {"secret": "api-key"}})
    assert runner.serve(stage.root) == 1
    assert stage.log == []
    text = told(stage.root)["error"]["text"]
    assert "inference.api_key: the secret 'api-key' is not on this node" in text
    assert f"<3>serving failed (secret): {text}" in capfd.readouterr().err
    assert prom(stage.root)["imgnode_serve_starts_failed"] == 1


def test_secrets_go_by_the_environment_alone(
    stage: Stage, capfd: pytest.CaptureFixture[str]
) -> None:
    put(stage.root / "etc/credstore/imgnode.api-key", "SECRET-key\n")
    seed(stage.root, {**GOOD, "api_key": {"secret": "api-key"}})
    stage.output = ["ValueError: SECRET-key is odd"]
    assert fails(stage, [1]) == 1
    assert stage.env == {"VLLM_API_KEY": "SECRET-key"}
    assert "SECRET" not in " ".join(stage.words)
    assert told(stage.root)["error"]["text"] == "vLLM: ValueError: *** is odd"
    out, err = capfd.readouterr()
    everything = [out, err, *stage.notified]
    everything += [
        one.read_text()
        for one in stage.root.rglob("*")
        if one.is_file() and "credstore" not in str(one)
    ]
    assert "SECRET" not in "".join(everything)


def test_a_model_that_is_nowhere(stage: Stage) -> None:
    seed(stage.root, {"model": "no/such"})
    assert runner.serve(stage.root) == 1
    assert told(stage.root)["error"]["kind"] == "config"
    assert "no/such is not on this node" in told(stage.root)["error"]["text"]
    assert stage.log == []


def test_fetching_is_told_as_such(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    phases: list[str] = []

    def provide(*given: Any) -> None:  # noqa: ANN401
        given[-1]("fetching a: b (1 of 2)")
        phases.append(told(stage.root)["phase"])
        raise Fault(FETCH, "the mirror is down")

    monkeypatch.setattr(runner, "provide", provide)
    assert runner.serve(stage.root) == 1
    assert phases == ["fetch"]
    assert "STATUS=fetching a: b (1 of 2)" in stage.notified


def test_dockers_store_is_mended_once(stage: Stage) -> None:
    stage.known = [False, True]
    assert fails(stage, [None, runner.Stopped()]) == 0
    assert stage.log[:2] == ["heal", "remove"]


def test_trouble_with_docker_does_not_count_against_the_config(stage: Stage) -> None:
    stage.known = [False]
    assert runner.serve(stage.root) == 1
    assert stage.log == ["heal"]
    assert told(stage.root)["error"]["kind"] == DOCKER
    assert "a layer is missing" in told(stage.root)["error"]["text"]
    assert choice.load_attempt(GOOD, stage.root).count == 0
    stage.known = [True]
    stage.end = Fault(DOCKER, "port is taken")
    assert fails(stage, [125]) == 1
    assert choice.load_attempt(GOOD, stage.root).count == 0


def test_a_docker_that_takes_no_seeded_layers_copies_them_once(
    stage: Stage, capfd: pytest.CaptureFixture[str]
) -> None:
    stage.known, stage.version = [False], "31.0"
    put(stage.root / "proc/self/mountinfo", "")
    (stage.root / "var/lib/docker").mkdir(parents=True)
    assert fails(stage, [None, runner.Stopped()]) == 0
    assert stage.log[:3] == ["heal", "copy", "remove"]
    why = "Docker 31.0 does not take the seeded layers: it loads a copy, 0.0 GiB, once per boot"
    assert f"<4>{why}" in capfd.readouterr().err
    assert (stage.seen["state"], stage.seen["phase"], stage.seen["text"]) == (
        "loading",
        "copy",
        why,
    )
    assert stage.copy in stage.words
    assert REFERENCE not in stage.words
    stage.log.clear()
    assert fails(stage, [None, runner.Stopped()]) == 0
    assert stage.log[0] == "remove"
    assert stage.copy in stage.words
    (line,) = [one for one in reports.lines(told(stage.root)) if "COPY" in one]
    assert "only a copy of the image" in line


def test_a_copy_that_fails_does_not_count_against_the_config(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: list[str], **__: float) -> tuple[Finished, Finished]:
        return Finished(-13, "", ""), Finished(1, "", "no space left on device")

    monkeypatch.setattr(process, "pipe", full)
    stage.known, stage.version = [False], "31.0"
    put(stage.root / "proc/self/mountinfo", "")
    (stage.root / "var/lib/docker").mkdir(parents=True)
    assert runner.serve(stage.root) == 1
    assert told(stage.root)["error"]["kind"] == DOCKER
    assert "no space left on device" in told(stage.root)["error"]["text"]
    assert choice.load_attempt(GOOD, stage.root).count == 0


def test_out_of_memory_is_said(stage: Stage) -> None:
    stage.end = Fault(MEMORY, "out of memory: the container needs more than 9.0 GiB")
    stage.output = ["RuntimeError: something else"]
    assert fails(stage, [None, 137]) == 1
    assert told(stage.root)["error"]["kind"] == MEMORY


def test_a_start_that_takes_too_long_is_ended(stage: Stage) -> None:
    stage.health = ["refused"] * 1000
    stage.polls = []
    assert runner.serve(stage.root) == 1
    assert stage.log == ["remove", "network", "start", "stop"]
    error = told(stage.root)["error"]
    assert error["kind"] == "timeout"
    assert "no token after 600 s; last answer: refused" in error["text"]
    assert stage.now < 1000 + 600 + 30


def test_a_stop_while_loading_does_not_count(stage: Stage) -> None:
    stage.health = ["refused"] * 10
    assert fails(stage, [None, runner.Stopped(), None]) == 0
    assert choice.load_attempt(GOOD, stage.root).count == 0
    assert stage.log == ["remove", "network", "start", "stop", "kill"]
    assert told(stage.root)["state"] == "stopped"


def test_systemds_signal_stops_it() -> None:
    with pytest.raises(runner.Stopped):
        runner._stop(signal.SIGTERM, None)


def test_nothing_to_serve_is_skipped(stage: Stage) -> None:
    assert runner.wanted(stage.root)
    assert not (stage.root / "run/imgnode/serve.json").exists()
    seed(stage.root, {})
    assert not runner.wanted(stage.root)
    assert told(stage.root)["state"] == "skipped"
    assert prom(stage.root)['imgnode_serve_state{state="skipped"}'] == 1
    assert runner.serve(stage.root) == 0


def test_a_full_disk_is_the_nodes_fault(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> Path:
        raise OSError(28, "No space left on device", "/var/lib/imgnode/cache")

    monkeypatch.setattr(cache, "prepare", full)
    assert runner.serve(stage.root) == 1
    assert "cache: No space left" in told(stage.root)["error"]["text"]
    assert choice.load_attempt(GOOD, stage.root).count == 0


def test_an_override_of_another_seed_is_dropped(
    stage: Stage, capfd: pytest.CaptureFixture[str]
) -> None:
    override.save(Override("of another", {"max_model_len": 1}), stage.root)
    assert fails(stage, [None, runner.Stopped()]) == 0
    assert "the seed's config has changed" in capfd.readouterr().out
    assert not (stage.root / "var/lib/imgnode/model/override.json").exists()
    assert "--max-model-len=1" not in stage.words
