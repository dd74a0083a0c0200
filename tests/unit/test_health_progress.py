"""Stalled or busy: what looks at a server mean, one after the other. Time is a number here."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import pytest

from imgnode import loopback
from imgnode.health.container import Container
from imgnode.health.progress import (
    NOTHING,
    QUIET_S,
    SPIN_GPU_S,
    SPIN_S,
    Class,
    Load,
    Progress,
    read_load,
)
from imgnode.loopback import Answer
from tests.unit.serve_node import put

FIXTURE = Path(__file__).parents[1] / "fixtures/vllm/two-engines.txt"
LOOK_S = 10.0


@dataclass
class Server:
    """A server that is looked at each ten seconds."""

    gpu: bool = False
    at: float = 1000.0
    running: float = 0
    waiting: float = 0
    tokens: float = 0
    cpu: float | None = 5.0
    progress: Progress = field(init=False)

    def __post_init__(self) -> None:
        self.progress = Progress(SPIN_GPU_S if self.gpu else SPIN_S)

    def look(
        self, *, tokens: int = 0, uses: float = 1.0, answers: bool = True, owed: bool = False
    ) -> Class:
        """Let ten seconds pass, in which it makes tokens and uses so much of a processor."""
        self.at += LOOK_S
        self.tokens += tokens
        if self.cpu is not None:
            self.cpu += uses * LOOK_S
        load = Load(self.running, self.waiting, self.tokens, 0, (self.tokens,))
        return self.progress.see(self.at, load if answers else None, self.cpu, owed=owed)

    def until_stalled(self, limit: int, **how: float | bool) -> float | None:
        """Return after how many seconds it is called stalled, None where it never is."""
        began = self.at
        for _ in range(limit):
            if self.look(**how) is Class.STALLED:  # type: ignore[arg-type]
                return self.at - began
        return None


def busy(**how: float | bool) -> Server:
    server = Server(running=4, **how)  # type: ignore[arg-type]
    assert server.look(tokens=10) is Class.SERVING
    assert server.look(tokens=10) is Class.SERVING
    return server


def test_what_vllm_counts() -> None:
    load = read_load(FIXTURE.read_text())
    assert load == Load(4, 2, 500, 1234567, (500, 1234567, 42, 0.75))


@pytest.mark.parametrize("text", ["", "<html>", "vllm:num_requests_running 1.0\n", "404"])
def test_what_is_no_vllm_has_no_load(text: str) -> None:
    assert read_load(text) is None


def test_a_server_with_nothing_to_do_is_idle() -> None:
    server = Server()
    server.look()
    assert {server.look(uses=0.0) for _ in range(1000)} == {Class.IDLE}


def test_tokens_between_two_looks_are_seen_though_nothing_runs_now() -> None:
    server = Server()
    server.look()
    assert server.look(tokens=3) is Class.SERVING
    assert server.progress.generated_s == 0.3
    assert server.look() is Class.IDLE


@pytest.mark.parametrize("gpu", [True, False])
def test_a_stopped_server_is_found_within_a_minute(gpu: bool) -> None:
    """SIGSTOP: the kernel takes the connection, nobody answers, no processor is used."""
    after = busy(gpu=gpu).until_stalled(20, uses=0.0, answers=False)
    assert after is not None
    assert after + 5 <= 60  # the time limit of the question comes on top


def test_a_stopped_server_is_found_though_it_was_idle() -> None:
    server = Server()
    server.look()
    server.look()
    after = server.until_stalled(20, uses=0.0, answers=False)
    assert after is not None
    assert after <= 50


@pytest.mark.parametrize("gpu", [True, False])
def test_an_engine_that_sleeps_on_its_work_is_found_within_a_minute(gpu: bool) -> None:
    """The API server answers, /health says 200, requests run, and no token comes."""
    after = busy(gpu=gpu).until_stalled(20, uses=0.0)
    assert after is not None
    assert after <= 50


def test_an_engine_that_spins_on_a_gpu_is_found() -> None:
    assert busy(gpu=True).until_stalled(50) == SPIN_GPU_S


def test_a_long_prompt_on_processors_is_work() -> None:
    server = busy()
    assert server.until_stalled(180, uses=2.0) is None
    assert server.look(tokens=1) is Class.SERVING


def test_an_hour_of_it_is_none() -> None:
    assert busy().until_stalled(400, uses=2.0) == SPIN_S


@pytest.mark.parametrize("gpu", [True, False])
@pytest.mark.parametrize("answers", [True, False])
def test_an_hour_under_saturation_is_never_a_stall(gpu: bool, answers: bool) -> None:
    """It makes tokens and has a queue; where it is too busy to answer, it uses its processors."""
    server = busy(gpu=gpu)
    server.waiting = 200
    seen = [server.look(tokens=5, uses=0.9, answers=answers) for _ in range(358)]
    assert Class.STALLED not in seen
    assert set(seen[2:]) == {Class.SATURATED}


def test_a_starved_server_has_time_to_answer() -> None:
    """Seen on a machine with too much to do: less than a tenth of a processor for a server."""
    assert busy(gpu=True).until_stalled(300, uses=0.03, answers=False) is None


def test_slow_answers_now_and_then_do_not_matter() -> None:
    server = busy(gpu=True)
    for number in range(500):
        assert server.look(tokens=2, answers=number % 4 == 0) is not Class.STALLED


def test_a_starved_server_that_still_makes_tokens_is_not_stalled() -> None:
    server = busy()
    for number in range(200):
        assert server.look(tokens=number % 3 == 0, uses=0.01) is not Class.STALLED


def test_a_queue_must_last_to_be_saturation() -> None:
    server = busy()
    server.waiting = 3
    assert server.look(tokens=1) is Class.SERVING
    assert server.look(tokens=1) is Class.SATURATED
    server.waiting = 0
    assert server.look(tokens=1) is Class.SERVING


@pytest.mark.parametrize("uses", [0.0, 1.0])
def test_without_its_cgroup_a_server_is_given_the_benefit_of_the_doubt(uses: float) -> None:
    server = busy()
    server.cpu = None
    assert server.until_stalled(300, uses=uses, answers=False) is None


def test_a_token_that_is_owed_to_us_is_work() -> None:
    """A hanging engine tells of no request: its gauges are its own."""
    server = Server()
    server.look()
    server.look()
    assert server.look(uses=0.0, owed=True) is Class.SERVING
    after = server.until_stalled(20, uses=0.0, owed=True)
    assert after is not None
    assert after + LOOK_S <= 60


def test_a_pause_of_the_machine_is_no_stall() -> None:
    server = busy()
    server.at += 3600
    assert server.look(uses=0.0) is Class.SERVING
    assert server.until_stalled(20, uses=0.0) is not None


def test_another_container_begins_anew() -> None:
    server = busy()
    server.look(uses=0.0)
    server.cpu = 0.1
    server.tokens = 0
    assert server.look(uses=0.0) is Class.SERVING


def test_it_gets_on_again() -> None:
    server = busy()
    assert server.until_stalled(20, uses=0.0) is not None
    assert server.look(tokens=1) is Class.SERVING


def test_a_server_that_counts_nothing_is_idle() -> None:
    progress = Progress()
    assert progress.see(10, NOTHING, 0.0, owed=False) is Class.SERVING
    assert {progress.see(10 + 10 * n, NOTHING, 0.0, owed=False) for n in range(1, 50)} == {
        Class.IDLE
    }


def test_the_limits_keep_the_promise() -> None:
    assert QUIET_S + 2 * LOOK_S + 5 <= 60


SCOPE = "sys/fs/cgroup/system.slice/docker-abc.scope/cpu.stat"


def test_the_cgroup_of_the_container(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[Path, str]] = []

    def ask(place: Path, path: str, *, limit_s: float) -> Answer:
        assert limit_s <= 5
        asked.append((place, path))
        return Answer(200, b'{"State": {"Pid": 42}}')

    monkeypatch.setattr(loopback, "ask", ask)
    container = Container(tmp_path)
    assert container.cpu_s() is None
    put(tmp_path / "proc/42/cgroup", "0::/system.slice/docker-abc.scope\n")
    put(tmp_path / SCOPE, "usage_usec 1500000\nuser_usec 1\n")
    assert container.cpu_s() == 1.5
    assert asked == [(tmp_path / "run/docker.sock", "/containers/vllm/json")] * 2
    put(tmp_path / SCOPE, "usage_usec 2500000\n")
    assert container.cpu_s() == 2.5
    assert len(asked) == 2  # a Docker that hangs is not asked again
    (tmp_path / SCOPE).unlink()
    assert container.cpu_s() is None
    assert len(asked) == 3


@pytest.mark.parametrize("body", [b"", b"[]", b'{"message": "no such container"}', b"{"])
def test_no_container_has_no_cgroup(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, body: bytes
) -> None:
    monkeypatch.setattr(loopback, "ask", lambda *_, **__: Answer(404, body))
    assert Container(tmp_path).cpu_s() is None

    def hang(*_: object, **__: object) -> Answer:
        raise TimeoutError

    monkeypatch.setattr(loopback, "ask", hang)
    assert Container(tmp_path).cpu_s() is None
