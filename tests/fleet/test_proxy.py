"""The real HAProxy over three servers that drain and reboot one after another: nothing is lost."""

from __future__ import annotations

import contextlib
import http.client
import select
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from builder.fleet.nodes import Node
from builder.fleet.proxy import haproxy

_ANSWER_S = 0.05
_DOWN_S = 1.5
_CLIENTS = 8


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:  # noqa: N802 - the base class wants it
        self._answer(b"ok")

    def do_POST(self) -> None:  # noqa: N802 - the base class wants it
        self.rfile.read(int(self.headers["Content-Length"]))
        time.sleep(_ANSWER_S)
        self._answer(b'{"choices": []}')

    def _answer(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


class _Server(ThreadingHTTPServer):
    request_queue_size = 128

    def drain(self) -> None:
        """Refuse new connections, as a draining node does; those that are open are answered.

        The kernel resets what waits to be accepted when the socket goes, so that is taken first.
        """
        self.shutdown()
        while select.select([self.socket], [], [], 0)[0]:
            self._handle_request_noblock()  # type: ignore[attr-defined]
        self.server_close()


def _serve(port: int = 0) -> _Server:
    server = _Server(("127.0.0.1", port), _Handler)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    return server


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
    return port


@contextlib.contextmanager
def _proxied(folder: Path, ports: list[int]) -> Iterator[int]:
    nodes = [
        Node(
            name=f"n{number}",
            ansible_host="127.0.0.1",
            fleet_probe_port=port,
            inference={"model": "org/one"},
        )
        for number, port in enumerate(ports)
    ]
    port, state = _free_port(), _free_port()
    path = folder / "haproxy.cfg"
    text = haproxy(nodes, source="a test", listen="127.0.0.1", port=port, state_port=state)
    path.write_text(text)
    process = subprocess.Popen(["haproxy", "-f", str(path)], stderr=subprocess.DEVNULL)
    try:
        end = time.monotonic() + 60
        while time.monotonic() < end:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            time.sleep(0.1)
        yield port
    finally:
        process.terminate()
        process.wait(30)


def _ask(port: int, done: threading.Event, statuses: list[int]) -> None:
    """Ask again and again over one connection, as clients do."""
    link = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    while not done.is_set():
        try:
            link.request("POST", "/v1/completions", body=b"{}")
            answer = link.getresponse()
            answer.read()
            statuses.append(answer.status)
        except (OSError, http.client.HTTPException):
            statuses.append(0)
            link.close()
    link.close()


@pytest.mark.skipif(shutil.which("haproxy") is None, reason="needs haproxy")
@pytest.mark.parametrize("waves", [[[0], [1], [2]], [[0, 1]]], ids=["one", "two"])
def test_no_request_fails_while_nodes_reboot(tmp_path: Path, waves: list[list[int]]) -> None:
    """One after another, or two at once: then those that refuse look the least busy."""
    servers = [_serve() for _ in range(3)]
    ports = [one.server_address[1] for one in servers]
    done, statuses = threading.Event(), list[int]()
    with _proxied(tmp_path, ports) as port:
        clients = [
            threading.Thread(target=_ask, args=(port, done, statuses)) for _ in range(_CLIENTS)
        ]
        for one in clients:
            one.start()
        for wave in waves:
            time.sleep(_DOWN_S)
            for number in wave:
                servers[number].drain()
            time.sleep(_DOWN_S)
            for number in wave:
                servers[number] = _serve(ports[number])
            time.sleep(6)  # until HAProxy has seen it twice
        done.set()
        for one in clients:
            one.join(60)
    for server in servers:
        server.shutdown()
        server.server_close()
    assert set(statuses) == {200}
    assert len(statuses) > _CLIENTS
