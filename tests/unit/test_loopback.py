"""The small HTTP client, against a server that really listens."""

from __future__ import annotations

import _socket
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from imgnode import loopback
from tests.unit.standin import Script, served


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Script]:
    with served(monkeypatch) as script:
        yield script


def test_a_question_and_its_answer(server: Script) -> None:
    server.tokens = 7
    answer = loopback.ask(server.port, "/metrics", limit_s=60)
    assert answer.status == 200
    assert answer.text.splitlines()[-1].endswith(" 7")
    assert loopback.ask(server.port, "/x", limit_s=60) == loopback.Answer(404, b"no such page")


def test_a_body_is_posted_with_its_headers(server: Script) -> None:
    loopback.ask(server.port, "/v1/completions", limit_s=60, body=b"{}", headers={"X-A": "b"})
    verb, path, headers, body = server.asked[0]
    assert (verb, path, body) == ("POST", "/v1/completions", b"{}")
    assert headers["X-A"] == "b"


def test_nobody_listens(server: Script) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        with pytest.raises(ConnectionRefusedError):
            loopback.ask(free.getsockname()[1], "/", limit_s=60)
    server.cut = True
    with pytest.raises(ConnectionError, match="without an answer"):
        loopback.ask(server.port, "/", limit_s=60)


def test_silence_has_a_limit(server: Script) -> None:
    server.silent = True
    with pytest.raises(TimeoutError):
        loopback.ask(server.port, "/", limit_s=0.05)


def test_the_limit_is_for_the_whole_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that says one byte after the other has no more time than any."""

    limits: list[float] = []

    class Drop:
        def settimeout(self, left: float) -> None:
            limits.append(left)

        def recv(self, _: int) -> bytes:
            return b"x"

    clock = iter(range(100))
    monkeypatch.setattr(time, "monotonic", lambda: next(clock))
    with pytest.raises(TimeoutError):
        loopback._all(Drop(), 10.0)  # type: ignore[arg-type]
    assert limits == [10 - passed for passed in range(10)]


def test_an_endless_answer_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    class Flood:
        def settimeout(self, _: float) -> None:
            pass

        def recv(self, _: int) -> bytes:
            return b"x" * (1 << 20)

    monkeypatch.setattr(time, "monotonic", lambda: 0.0)
    with pytest.raises(ConnectionError, match="too long"):
        loopback._all(Flood(), 10.0)  # type: ignore[arg-type]


def test_a_socket_of_the_file_system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket.socket, "connect", _socket.socket.connect)
    with pytest.raises(FileNotFoundError):
        loopback.ask(tmp_path / "s", "/", limit_s=60)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "s"))
        listening.listen()

        def answer() -> None:
            channel, _ = listening.accept()
            with channel:
                assert channel.recv(4096).startswith(b"GET /_ping HTTP/1.1\r\n")
                channel.sendall(b"HTTP/1.0 200 OK\r\n\r\nOK")

        thread = threading.Thread(target=answer)
        thread.start()
        assert loopback.ask(tmp_path / "s", "/_ping", limit_s=60).text == "OK"
        thread.join()


@pytest.mark.parametrize(
    "data", [b"", b"HTTP/1.1", b"SSH-2.0 200 x\r\n\r\n", b"HTTP/1.1 abc\r\n\r\n"]
)
def test_what_is_no_answer(data: bytes) -> None:
    with pytest.raises(ConnectionError):
        loopback._understood(data)


CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nX: y\r\n\r\n"


def test_an_answer_in_chunks() -> None:
    """As uvicorn sends what has no length, with httptools."""
    body = b"5\r\nab\r\nc\r\n1a;x=y\r\n" + b"z" * 26 + b"\r\n0\r\n\r\n"
    assert loopback._understood(CHUNKED + body).body == b"ab\r\nc" + b"z" * 26
    for cut in (b"", b"5\r\nab", b"5\r\nabcde\r\n", b"x\r\n"):
        with pytest.raises(ConnectionError, match="cut off"):
            loopback._understood(CHUNKED + cut)
