"""A release server on the loopback interface: ranges, a log, any speed, and it can be down."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass, field
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from pathlib import Path

from tests.listening import Listening

_CHUNK = 1 << 18
_RANGE = re.compile(r"bytes=(\d+)-")


@dataclass
class Request:
    """What was asked for, from which byte on, and how many bytes went out."""

    path: str
    start: int
    status: HTTPStatus
    sent: int = 0


class _Handler(BaseHTTPRequestHandler):
    server_side: Releases

    def do_GET(self) -> None:  # noqa: N802 - http.server's name for it
        path = self.server_side.folder / self.path.partition("?")[0].lstrip("/")
        size = path.stat().st_size if path.is_file() else None
        wanted = _RANGE.fullmatch(self.headers.get("Range", ""))
        start = int(wanted[1]) if wanted else 0
        request = Request(self.path, start, _status(size, start, ranged=wanted is not None))
        self.server_side.requests.append(request)
        self.send_response(request.status)
        if size is None or request.status >= HTTPStatus.BAD_REQUEST:
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.send_header("Content-Length", str(size - start))
        if wanted:
            self.send_header("Content-Range", f"bytes {start}-{size - 1}/{size}")
        self.end_headers()
        self._send(path, request)

    def _send(self, path: Path, request: Request) -> None:
        with path.open("rb") as stream:
            stream.seek(request.start)
            while chunk := stream.read(_CHUNK):
                self.wfile.write(chunk)
                request.sent += len(chunk)
                if self.server_side.rate:
                    time.sleep(len(chunk) / self.server_side.rate)

    def log_message(self, *_: object) -> None:
        """Say nothing: what counts is in `requests`."""


def _status(size: int | None, start: int, *, ranged: bool) -> HTTPStatus:
    if size is None:
        return HTTPStatus.NOT_FOUND
    if start >= size:
        return HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE
    return HTTPStatus.PARTIAL_CONTENT if ranged else HTTPStatus.OK


@dataclass
class Releases(Listening):
    """Serves a folder while the `with` block lasts; `rate` is in bytes per second, None for any."""

    handler = _Handler
    folder: Path
    rate: float | None = None
    requests: list[Request] = field(default_factory=list)

    def asked_since(self, number: int) -> list[tuple[str, int, HTTPStatus, int]]:
        """Return all requests but the first `number`: file, first byte, status, bytes sent."""
        told = self.requests[number:]
        return [(Path(one.path).name, one.start, one.status, one.sent) for one in told]
