"""What an installed machine gives its neighbours before it leaves the installer.

`GET /parts/SHA256` is a part as it lies in its slot, `GET /layers/NAME` a layer file of `var`.
Nothing is kept for it and nobody is trusted by it: who fetches knows the signed digest. Ranges of
the kind that curl asks for are answered (RFC 9110, 14.2), others are ignored.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import BinaryIO

from imgnode.install import var as var_
from imgnode.install.run import Installed
from imgnode.install.table import plain_var
from imgnode.layers.store import Store

EVERY_S = 5.0
MOST_S = 3600.0  # a server that forgets a machine does not keep it for ever
_MISSES = 6
_CHUNK = 1 << 20
_IDLE_S = 60.0
_RANGE = re.compile(r"bytes=(\d{1,19})-")


@dataclass(frozen=True)
class Extent:
    """A piece of a file or a disk."""

    path: Path
    offset: int
    bytes: int


def share(
    done: Installed,
    port: int,
    stays: Callable[[], bool | None],
    root: Path,
    pause_s: float = EVERY_S,
) -> None:
    """Serve neighbours until `stays` says that nobody needs it; None means that it cannot say.

    Raises OSError where the port cannot be had, Refused where `var` cannot be mounted.
    """
    target = root / "run/imgnode/install/target"
    plain = plain_var(done.disk, done.layout)
    var = var_.mounted(done.disk, plain, target / "var") if plain else nullcontext()
    with var, serving(_catalog(done, Store(target) if plain else None), port):
        until, missed = time.monotonic() + MOST_S, 0
        while missed < _MISSES and time.monotonic() < until:
            said = stays()
            if said is False:
                return
            missed = missed + 1 if said is None else 0
            time.sleep(pause_s)


def _catalog(done: Installed, store: Store | None) -> dict[str, Extent]:
    recipe, layout = done.offer.recipe, done.layout
    found = {
        f"/parts/{part.sha256}": Extent(done.disk, place.offset, part.bytes)
        for part, place in ((recipe.root, layout.roots[0]), (recipe.verity, layout.trees[0]))
    }
    found[f"/parts/{recipe.uki.sha256}"] = Extent(done.uki, 0, recipe.uki.bytes)
    if store:
        for file in done.offer.layers:
            found[f"/layers/{file.name}"] = Extent(store.path(file), 0, file.bytes)
    return found


@contextmanager
def serving(catalog: Mapping[str, Extent], port: int, address: str = "") -> Iterator[int]:
    """Serve a catalog on all addresses until the end of the block; give the port."""

    class Handler(_Handler):
        files = catalog

    server = ThreadingHTTPServer((address, port), Handler)
    server.daemon_threads = False  # `var` is unmounted when the last one has ended
    thread = threading.Thread(target=server.serve_forever, name="share")
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    files: Mapping[str, Extent]
    timeout = _IDLE_S

    def do_GET(self) -> None:  # noqa: N802 - http.server's name for it
        """Answer with an extent, from where the asker is."""
        extent = self.files.get(self.path)
        if extent is None:
            self.send_error(HTTPStatus.NOT_FOUND)
            return
        asked = _RANGE.fullmatch(self.headers.get("Range", ""))
        at = int(asked[1]) if asked else 0
        if at and at >= extent.bytes:
            self.send_error(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE)
            return
        with extent.path.open("rb", buffering=0) as stream:
            self.send_response(HTTPStatus.PARTIAL_CONTENT if asked else HTTPStatus.OK)
            self.send_header("Content-Length", str(extent.bytes - at))
            if asked:
                last = extent.bytes - 1
                self.send_header("Content-Range", f"bytes {at}-{last}/{extent.bytes}")
            self.end_headers()
            self._send(stream, extent, at)

    def _send(self, stream: BinaryIO, extent: Extent, at: int) -> None:
        stream.seek(extent.offset + at)
        left = extent.bytes - at
        try:
            while left and (data := stream.read(min(_CHUNK, left))):
                self.wfile.write(data)
                left -= len(data)
        except (ConnectionError, TimeoutError):
            self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name
        """Say nothing: the server tells what becomes of the neighbours."""
