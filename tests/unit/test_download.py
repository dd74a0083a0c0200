"""Fetching from a server that lies: too much, elsewhere, cut short. Real curl, loopback only."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from imgnode.download import Patience, download, fetch_small

pytestmark = pytest.mark.allow_commands("prlimit")
WHOLE = bytes(range(256)) * 40


class Handler(BaseHTTPRequestHandler):
    """Each path is a way to answer."""

    def do_GET(self) -> None:  # noqa: N802 - http.server's name for it
        getattr(self, f"say_{self.path.strip('/')}")()

    def say_good(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(WHOLE)))
        self.end_headers()
        self.wfile.write(WHOLE)

    def say_endless(self) -> None:
        self.send_response(200)
        self.end_headers()
        try:
            while True:
                self.wfile.write(WHOLE)
        except OSError:
            return

    def say_elsewhere(self) -> None:
        self.send_response(302)
        self.send_header("Location", "/good")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def say_missing(self) -> None:
        self.send_response(404)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    listening = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=listening.serve_forever, args=(0.05,), daemon=True).start()
    yield f"http://127.0.0.1:{listening.server_port}"
    listening.shutdown()
    listening.server_close()


def test_a_file_arrives(server: str, tmp_path: Path) -> None:
    part = tmp_path / "part"
    assert download(f"{server}/good", part, len(WHOLE), Patience()) is None
    assert part.read_bytes() == WHOLE
    assert fetch_small(f"{server}/good", part, len(WHOLE)) is None
    assert part.read_bytes() == WHOLE


@pytest.mark.parametrize("path", ["endless", "good"])
def test_no_answer_grows_beyond_what_was_expected(server: str, tmp_path: Path, path: str) -> None:
    part = tmp_path / "part"
    limit = len(WHOLE) - 1
    assert download(f"{server}/{path}", part, limit, Patience(0)) is not None
    assert not part.exists() or part.stat().st_size <= limit
    assert fetch_small(f"{server}/{path}", part, limit) is not None
    assert not part.exists()


def test_a_redirect_is_not_followed(server: str, tmp_path: Path) -> None:
    told = "the server redirects elsewhere (302), which is not followed"
    assert download(f"{server}/elsewhere", tmp_path / "part", 99, Patience()) == told
    assert fetch_small(f"{server}/elsewhere", tmp_path / "small", 99) == told
    assert not (tmp_path / "small").exists()


def test_what_is_not_there_is_told_at_once(server: str, tmp_path: Path) -> None:
    assert "404" in str(download(f"{server}/missing", tmp_path / "part", 99, Patience()))
