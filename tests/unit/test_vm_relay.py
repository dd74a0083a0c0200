"""The relay between a guest's connection and a server of this host."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

RELAY = Path(__file__).parents[2] / "builder/vm/relay.py"
LIMIT_S = 20.0

pytestmark = pytest.mark.allow_commands("python", "python3", "python3.11")


@pytest.fixture
def server() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(LIMIT_S)
        yield listening


@pytest.fixture
def relay(server: socket.socket) -> Iterator[subprocess.Popen[bytes]]:
    with start(server.getsockname()[1]) as child:
        try:
            yield child
        finally:
            child.kill()


def start(port: int) -> subprocess.Popen[bytes]:
    pipe = subprocess.PIPE
    argv = [sys.executable, "-I", "-S", str(RELAY), str(port)]
    return subprocess.Popen(argv, stdin=pipe, stdout=pipe, stderr=pipe)


def accept(server: socket.socket) -> socket.socket:
    line, _ = server.accept()
    line.settimeout(LIMIT_S)
    return line


def test_it_carries_both_ways_and_ends_with_the_server(
    server: socket.socket, relay: subprocess.Popen[bytes]
) -> None:
    assert relay.stdin is not None
    assert relay.stdout is not None
    long = bytes(range(256)) * 4096
    with accept(server) as line:
        relay.stdin.write(b"GET")
        relay.stdin.flush()
        assert line.recv(3) == b"GET"
        line.sendall(long)
    assert relay.stdout.read() == long
    assert relay.wait(LIMIT_S) == 0


def test_it_ends_with_the_guest(server: socket.socket, relay: subprocess.Popen[bytes]) -> None:
    assert relay.stdin is not None
    with accept(server) as line:
        relay.stdin.close()
        assert line.recv(1) == b""
        assert relay.wait(LIMIT_S) == 0


def test_without_a_server_it_ends_without_a_word(server: socket.socket) -> None:
    port = server.getsockname()[1]
    server.close()
    with start(port) as child:
        out, err = child.communicate(timeout=LIMIT_S)
    assert (child.returncode, out, err) == (1, b"", b"")
