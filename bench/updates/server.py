"""A web server on the loopback interface that counts what it sends."""

from __future__ import annotations

import os
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from io import BufferedIOBase
from pathlib import Path
from typing import IO


class Counting(ThreadingHTTPServer):
    """Counts the bytes of the files that it sends, without headers, by their folders."""

    daemon_threads = True

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), partial(_Handler, directory=str(folder)))
        self._lock = threading.Lock()
        self._sent: Counter[str] = Counter()

    @property
    def address(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.server_port}"

    def count(self, path: str, size: int) -> None:
        """Add a file that is sent, to the folder at the head of its path."""
        with self._lock:
            self._sent[path.lstrip("/").partition("/")[0]] += size

    def taken(self) -> Counter[str]:
        """Return the bytes of each folder since the last call."""
        with self._lock:
            sent, self._sent = self._sent, Counter()
        return sent


class _Handler(SimpleHTTPRequestHandler):
    protocol_version = "HTTP/1.1"  # one connection for the many chunks of casync
    server: Counting

    def copyfile(self, source: IO[bytes], outputfile: BufferedIOBase) -> None:  # type: ignore[override]
        self.server.count(self.path, os.fstat(source.fileno()).st_size)
        super().copyfile(source, outputfile)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def serve(folder: Path) -> Iterator[Counting]:
    """Serve a folder as long as the block lasts."""
    server = Counting(folder)
    thread = threading.Thread(target=server.serve_forever, args=(0.1,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
