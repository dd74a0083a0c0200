"""A server on this machine's loopback that answers as a test says: vLLM's doors, or Docker's."""

from __future__ import annotations

import _socket
import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

METRICS = """\
vllm:num_requests_running{{engine="0",model_name="m"}} {running}
vllm:num_requests_waiting{{engine="0",model_name="m"}} {waiting}
vllm:generation_tokens_total{{engine="0",model_name="m"}} {tokens}
"""


@dataclass
class Script:
    """What the server does from now on. Every request is kept: verb, path, headers, body."""

    running: float = 0
    waiting: float = 0
    tokens: float = 0
    metrics: str | None = None  # instead of vLLM's
    silent: bool = False  # takes connections, says nothing
    cut: bool = False  # closes them without an answer
    completion: tuple[int, object] = (200, {"usage": {"completion_tokens": 1}})
    asked: list[tuple[str, str, dict[str, str], bytes]] = field(default_factory=list)
    over: threading.Event = field(default_factory=threading.Event)
    port: int = 0

    def answer(self, path: str) -> tuple[int, bytes]:
        """Return status and body of one request."""
        if path == "/metrics":
            text = METRICS.format(**vars(self)) if self.metrics is None else self.metrics
            return 200, text.encode()
        if path == "/v1/completions":
            return self.completion[0], json.dumps(self.completion[1]).encode()
        return 404, b"no such page"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    script: Script

    def do_GET(self) -> None:  # noqa: N802 - http.server's name for it
        length = int(self.headers.get("Content-Length", 0))
        request = (self.command, self.path, dict(self.headers), self.rfile.read(length))
        self.script.asked.append(request)
        if self.script.silent:
            self.script.over.wait(60)
        if self.script.silent or self.script.cut:
            self.close_connection = True
            return
        status, body = self.script.answer(self.path)
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_GET  # noqa: N815

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def served(monkeypatch: pytest.MonkeyPatch) -> Iterator[Script]:
    """Yield the script of a server that runs meanwhile; this test may connect."""
    monkeypatch.setattr(socket.socket, "connect", _socket.socket.connect)
    script = Script()
    handler = type("Handler", (_Handler,), {"script": script})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        script.port = server.server_address[1]
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield script
        script.over.set()
        server.shutdown()
        thread.join()
