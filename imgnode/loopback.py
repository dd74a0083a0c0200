"""Asks servers of this node by HTTP, each question within a limit in all.

Not urllib: that takes 7 MB in each daemon, has no limit for the whole answer, and would look for
a proxy. One connection for each question (RFC 9112): an answer ends with it.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

HERE = "127.0.0.1"
_MOST_BYTES = 16 << 20
_CHUNK = 64 << 10
Place = int | Path  # a port of this machine, or a socket's file


@dataclass(frozen=True)
class Answer:
    """What a server answered: the status of HTTP, and the body."""

    status: int
    body: bytes

    @property
    def text(self) -> str:
        """The body as text, whatever is in it."""
        return self.body.decode(errors="replace")


def ask(
    place: Place,
    path: str,
    *,
    limit_s: float,
    body: bytes | None = None,
    headers: Mapping[str, str] | None = None,
) -> Answer:
    """Return the answer to GET, or to POST where there is a body.

    Raises TimeoutError when the whole takes longer than the limit, ConnectionError when nobody
    listens or the connection ends without an answer, another OSError when the place is not there.
    """
    end = time.monotonic() + limit_s
    family = socket.AF_UNIX if isinstance(place, Path) else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as channel:
        channel.settimeout(limit_s)
        channel.connect(str(place) if isinstance(place, Path) else (HERE, place))
        channel.sendall(_request(path, body, headers or {}))
        return _understood(_all(channel, end))


def _request(path: str, body: bytes | None, headers: Mapping[str, str]) -> bytes:
    verb = "GET" if body is None else "POST"
    lines = [f"{verb} {path} HTTP/1.1", "Host: localhost", "Connection: close"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    if body is not None:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode() + (body or b"")


def _all(channel: socket.socket, end: float) -> bytes:
    """Read until the server closes the connection."""
    parts: list[bytes] = []
    length = 0
    while length <= _MOST_BYTES:
        left = end - time.monotonic()
        if left <= 0:
            raise TimeoutError("timed out")
        channel.settimeout(left)
        part = channel.recv(_CHUNK)
        if not part:
            return b"".join(parts)
        parts.append(part)
        length += len(part)
    raise ConnectionError("the answer is too long")


def _understood(data: bytes) -> Answer:
    head, _, body = data.partition(b"\r\n\r\n")
    words = head.split(maxsplit=2)
    if len(words) < 2 or not words[0].startswith(b"HTTP/") or not words[1].isdigit():  # noqa: PLR2004
        raise ConnectionError("the connection ended without an answer")
    chunked = b"\r\ntransfer-encoding:chunked" in head.lower().replace(b" ", b"")
    return Answer(int(words[1]), _joined(body) if chunked else body)


def _joined(body: bytes) -> bytes:
    """Return a body that came in chunks (RFC 9112, 7.1)."""
    parts: list[bytes] = []
    rest = body
    while True:
        size, _, rest = rest.partition(b"\r\n")
        try:
            length = int(size.partition(b";")[0], 16)
        except ValueError:
            raise ConnectionError("the answer is cut off") from None
        if length == 0:
            return b"".join(parts)
        if len(rest) < length + 2:
            raise ConnectionError("the answer is cut off")
        parts.append(rest[:length])
        rest = rest[length + 2 :]
