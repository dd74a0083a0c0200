"""A small server for one page: HTTP/1.1, one answer for each connection.

By hand on socketserver: http.server takes 5 MB of memory.
"""

from __future__ import annotations

import socket
import socketserver
import threading
import time
from collections.abc import Callable
from typing import Protocol

_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_LIMIT_S = 10.0  # for a whole request, and for its answer
_HEAD = 8192
_MOST = 16  # connections at a time
_HOME = "imgnode exporter: the page is /metrics\n"
_REASONS = {200: "OK", 400: "Bad Request", 401: "Unauthorized", 404: "Not Found",
            405: "Method Not Allowed"}  # fmt: skip

_Request = socket.socket | tuple[bytes, socket.socket]


class Wrap(Protocol):
    """What makes TLS of a connection (ssl.SSLContext)."""

    def wrap_socket(self, sock: socket.socket, server_side: bool) -> socket.socket:
        """Shake hands and return the safe connection. Raises OSError."""


class Server(socketserver.ThreadingTCPServer):
    """Answers GET /metrics with what `page` returns.

    `admit` judges the value of `Authorization:`; none: everybody is let in.
    """

    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 64

    def __init__(
        self,
        address: tuple[str, int],
        page: Callable[[], str],
        *,
        admit: Callable[[str], bool] | None = None,
        tls: Wrap | None = None,
    ) -> None:
        self.address_family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        self.page, self.admit, self.tls = page, admit, tls
        self._room = threading.BoundedSemaphore(_MOST)
        super().__init__(address, _Handler)

    def process_request(self, request: _Request, client_address: object) -> None:
        """Start a thread, or hang up where too many are at work."""
        if not self._room.acquire(blocking=False):
            self.shutdown_request(request)
            return
        super().process_request(request, client_address)

    def process_request_thread(self, request: _Request, client_address: object) -> None:
        """Answer within a thread of its own."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._room.release()


class _Handler(socketserver.BaseRequestHandler):
    server: Server

    def handle(self) -> None:
        """Read the head of one request and answer it."""
        connection: socket.socket = self.request
        connection.settimeout(_LIMIT_S)
        try:
            if self.server.tls:
                connection = self.server.tls.wrap_socket(connection, server_side=True)
            with connection:
                connection.sendall(self._answer(_head(connection)))
        except OSError:  # the other side's matter
            return

    def _answer(self, head: str) -> bytes:
        status, body, more = self._judge(head)
        data = body.encode()
        lines = [
            f"HTTP/1.1 {status} {_REASONS[status]}",
            f"Content-Type: {_TYPE}",
            f"Content-Length: {len(data)}",
            "Connection: close",
            *more,
        ]
        return "\r\n".join([*lines, "", ""]).encode() + (b"" if head.startswith("HEAD ") else data)

    def _judge(self, head: str) -> tuple[int, str, list[str]]:
        """Return status, body and further headers (RFC 9110)."""
        first, *fields = head.split("\r\n")
        words = first.split(" ")
        if len(words) != 3 or not words[2].startswith("HTTP/1."):  # noqa: PLR2004 - RFC 9112, 3
            return 400, "", []
        headers = {
            key.lower(): value.strip() for key, _, value in (f.partition(":") for f in fields)
        }
        admit = self.server.admit
        if admit and not admit(headers.get("authorization", "")):
            return 401, "Unauthorized\n", ['WWW-Authenticate: Basic realm="imgnode"']
        if words[0] not in ("GET", "HEAD"):
            return 405, "", ["Allow: GET, HEAD"]
        path = words[1].partition("?")[0]
        if path == "/metrics":
            return 200, self.server.page(), []
        return (200, _HOME, []) if path == "/" else (404, "", [])


def _head(connection: socket.socket) -> str:
    """Return the head of a request, "" for one that is too long or does not end."""
    data, ends = b"", time.monotonic() + _LIMIT_S
    while b"\r\n\r\n" not in data and len(data) < _HEAD:
        connection.settimeout(max(ends - time.monotonic(), 0.001))
        more = connection.recv(_HEAD)
        if not more:
            return ""
        data += more
    connection.settimeout(_LIMIT_S)
    return data.partition(b"\r\n\r\n")[0].decode("latin-1") if b"\r\n\r\n" in data else ""
