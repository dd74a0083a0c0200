"""A backup server on the loopback interface: restic's REST protocol, one folder, any login.

Source: restic's documentation, "REST Backend", version 1. Debian has no rest-server.
"""

from __future__ import annotations

import base64
import json
import re
import shutil
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path

from tests.listening import Listening

_RANGE = re.compile(r"bytes=(\d+)-(\d+)")


class _Handler(BaseHTTPRequestHandler):
    server_side: RestServer
    protocol_version = "HTTP/1.1"

    def _answer(self, status: int, body: bytes = b"", length: int | None = None) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        self.end_headers()
        self.wfile.write(body)

    def _path(self) -> Path | None:
        """Return what is asked for; None when somebody else asks, who has been told."""
        self.server_side.asked.append(f"{self.command} {self.path}")
        wanted = self.server_side.login
        given = self.headers.get("Authorization", "")
        if wanted and given != f"Basic {base64.b64encode(wanted.encode()).decode()}":
            self._answer(401)
            return None
        return self.server_side.folder / self.path.partition("?")[0].strip("/")

    def do_HEAD(self) -> None:  # noqa: N802 - http.server's name for it
        path = self._path()
        if path is not None:
            there = path.is_file()
            self._answer(200 if there else 404, length=path.stat().st_size if there else 0)

    def do_GET(self) -> None:  # noqa: N802
        path = self._path()
        if path is None:
            return
        if self.path.endswith("/"):
            names = sorted(one.name for one in path.rglob("*") if one.is_file())
            self._answer(200, json.dumps(names).encode())
        elif not path.is_file():
            self._answer(404)
        elif wanted := _RANGE.fullmatch(self.headers.get("Range", "")):
            self._answer(206, path.read_bytes()[int(wanted[1]) : int(wanted[2]) + 1])
        else:
            self._answer(200, path.read_bytes())

    def do_POST(self) -> None:  # noqa: N802
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        path = self._path()
        if path is None:
            return
        if "create=true" in self.path:
            path.mkdir(parents=True, exist_ok=True)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(body)
        self._answer(200)

    def do_DELETE(self) -> None:  # noqa: N802
        path = self._path()
        if path is None:
            return
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
        self._answer(200)

    def log_message(self, *_: object) -> None:
        """Say nothing: what counts is in `asked`."""


@dataclass
class RestServer(Listening):
    """Serves while the `with` block lasts; `asked` lists methods and paths."""

    handler = _Handler
    folder: Path
    login: str | None = None  # USER:PASSWORD
    asked: list[str] = field(default_factory=list)
