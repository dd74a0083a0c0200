"""A node whose exporter is asked: its root, a page of vLLM, and how metrics are read back."""

from __future__ import annotations

import re
import socket
from pathlib import Path
from typing import Any, Self

import pytest

from tests.unit import serve_node

PAGE = (Path(__file__).parents[1] / "fixtures/vllm/metrics.txt").read_text()
ROOT_HASH = "0123456789abcdef" * 4
_SERIES = re.compile(r"([a-zA-Z0-9_:]+)(\{.*\})? (\S+)")


def root(folder: Path, **image: Any) -> Path:  # noqa: ANN401
    """Return the root of a node that runs version 1."""
    serve_node.make(folder, **image)
    serve_node.put(folder / "proc/cmdline", f"ro roothash={ROOT_HASH} quiet")
    return folder


def values(text: str) -> dict[str, float]:
    """Return the metrics by name and labels; every line must be understood."""
    found = {}
    for line in text.splitlines():
        if not line.startswith("#"):
            match = _SERIES.fullmatch(line)
            assert match, line
            assert match[1] + (match[2] or "") not in found, line
            found[match[1] + (match[2] or "")] = float(match[3])
    return found


def answering(monkeypatch: pytest.MonkeyPatch, answer: bytes) -> list[bytes]:
    """Have every connection answered by these bytes; return what was asked."""
    asked: list[bytes] = []

    class Server:
        def __init__(self) -> None:
            self.rest = answer

        def __enter__(self) -> Self:
            return self

        def __exit__(self, *_: object) -> None:
            return

        def settimeout(self, _: float) -> None:
            return

        def sendall(self, data: bytes) -> None:
            asked.append(data)

        def recv(self, size: int) -> bytes:
            data, self.rest = self.rest[:size], self.rest[size:]
            return data

    monkeypatch.setattr(socket, "create_connection", lambda *_: Server())
    return asked


def ok(page: str) -> bytes:
    """Return a page as vLLM's server sends it."""
    return f"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\n\r\n{page}".encode()
