"""A release server on the loopback interface that lies on purpose, and real keys to sign with."""

from __future__ import annotations

import contextlib
import subprocess
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

_CHUNK = bytes(range(256)) * 64


@dataclass(frozen=True)
class Key:
    """A key of its own gpg home."""

    home: Path

    @classmethod
    def make(cls, home: Path) -> Key:
        home.mkdir(mode=0o700)
        one = cls(home)
        one.gpg("--passphrase", "", "--quick-generate-key", "test", "ed25519", "sign", "never")
        return one

    def gpg(self, *words: str, data: bytes = b"") -> bytes:
        argv = ["gpg", "--homedir", str(self.home), "--batch", "--quiet", *words]
        return subprocess.run(argv, input=data, capture_output=True, check=True).stdout

    def sign(self, data: bytes) -> bytes:
        return _signature(self, data)

    @property
    def public(self) -> bytes:
        return self.gpg("--export")

    def forget(self) -> None:
        """End gpg's agent, which would outlive the tests."""
        words = ["gpgconf", "--homedir", str(self.home), "--kill", "gpg-agent"]
        subprocess.run(words, check=True)


@cache
def _signature(key: Key, data: bytes) -> bytes:
    return key.gpg("--armor", "--detach-sign", data=data)


class Web(BaseHTTPRequestHandler):
    """One answer; what is not told otherwise is honest."""

    site: Site

    def do_GET(self) -> None:  # noqa: N802 - http.server's name for it
        path = self.path.lstrip("/")
        self.site.asked.append(path)
        answer = next((one for end, one in self.site.lies.items() if path.endswith(end)), honest)
        with contextlib.suppress(OSError):  # the other side hung up
            answer(self, self.site.files.get(path))

    def begin(self, status: int = 200, **head: str) -> None:
        """Send the head."""
        self.send_response(status)
        for name, value in head.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


Answer = Callable[[Web, bytes | None], None]


def honest(web: Web, data: bytes | None) -> None:
    """Send the file, from the byte that is asked for."""
    if data is None:
        web.begin(404, Content_Length="0")
        return
    start = int(web.headers.get("Range", "bytes=0-").removeprefix("bytes=").rstrip("-"))
    if start:
        whole = len(data)
        data = data[start:]
        web.begin(
            206, Content_Length=f"{len(data)}", Content_Range=f"bytes {start}-{whole - 1}/{whole}"
        )
    else:
        web.begin(Content_Length=f"{len(data)}")
    web.wfile.write(data)


def truncated(web: Web, data: bytes | None) -> None:
    """Promise it all, send half."""
    whole = data or b""
    web.begin(Content_Length=f"{len(whole)}")
    web.wfile.write(whole[: len(whole) // 2])


def short(web: Web, data: bytes | None) -> None:
    """Send half, as if that were all."""
    half = (data or b"")[: len(data or b"") // 2]
    web.begin(Content_Length=f"{len(half)}")
    web.wfile.write(half)


def endless(web: Web, data: bytes | None) -> None:
    """Send the file, and never stop."""
    web.begin()
    web.wfile.write(data or b"")
    while True:
        web.wfile.write(_CHUNK)


def endless_head(web: Web, _: bytes | None) -> None:
    """Send header after header."""
    web.send_response(200)
    web.flush_headers()
    while True:
        web.wfile.write(b"X-More: " + b"x" * 1000 + b"\r\n")


def elsewhere(status: int, target: str) -> Answer:
    """Return an answer that leads somewhere else."""

    def answer(web: Web, _: bytes | None) -> None:
        web.begin(status, Location=target, Content_Length="0")

    return answer


@dataclass
class Site:
    """Serves `files` while the `with` block lasts; `lies` are told by how a path ends."""

    files: dict[str, bytes]
    lies: dict[str, Answer] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    port: int = 0

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"


@contextlib.contextmanager
def serving(files: dict[str, bytes], port: int = 0) -> Iterator[Site]:
    """Serve files by their paths, on any port where none is named."""
    site = Site(files)
    listening = ThreadingHTTPServer(("127.0.0.1", port), type("One", (Web,), {"site": site}))
    listening.daemon_threads = True
    site.port = listening.server_port
    threading.Thread(target=listening.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield site
    finally:
        listening.shutdown()
        listening.server_close()
