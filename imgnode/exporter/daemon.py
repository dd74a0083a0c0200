"""The exporter's own life: what it looks at in the background, and the page that it makes of it.

Who asks gets what was seen last, so that neither a hung driver nor a busy server delays the answer.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from imgnode.exporter.gpu import EVERY_S, GpuCollector
from imgnode.exporter.names import SELF
from imgnode.exporter.node import identity_text, xid_text
from imgnode.exporter.vllm import VllmCollector
from imgnode.exporter.web import Server, Wrap
from imgnode.metrics import Samples, render
from imgnode.serve.facts import read_json

WEB_CONFIG = "monitoring.web.yml"  # a credential of the service; overlays/monitoring
_FACTS = Path("usr/lib/imgnode/image.json")
_EMPTY = ("", "{}")
_PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True)
class Place:
    """Where the exporter listens, and what it looks at: `vllm` is the server's port."""

    listen: str
    port: int
    gpus: bool
    vllm: int


class Exporter:
    """Looks at everything again and again, and makes a page of what it saw."""

    def __init__(self, place: Place, root: Path) -> None:
        self._root = root
        self._identity = identity_text(root)
        self._gpu = GpuCollector() if place.gpus else None
        self._vllm = VllmCollector(place.vllm)
        self._ends = threading.Event()

    def look(self) -> None:
        """Look until `close` is called: at vLLM, then at what the child says of the GPUs."""
        while not self._ends.is_set():
            until = time.monotonic() + EVERY_S
            self._vllm.collect()
            if self._gpu:
                self._gpu.collect(until)
            self._ends.wait(max(0.0, until - time.monotonic()))

    def close(self) -> None:
        """Stop looking, and end the child."""
        self._ends.set()
        if self._gpu:
            self._gpu.close()

    def page(self) -> str:
        """Return all metrics as text."""
        seen = [one for one in (self._gpu, self._vllm) if one]
        good: Samples = {(("collector", one.name),): bool(one.text) for one in seen}
        when: Samples = {(("collector", one.name),): one.when for one in seen if one.when}
        own: dict[str, Samples] = {
            "imgnode_exporter_collector_success": good,
            "imgnode_exporter_collector_timestamp_seconds": when,
            "process_cpu_seconds_total": {(): sum(os.times()[:2])},
            "process_resident_memory_bytes": {(): _memory()},
        }
        parts = (self._identity, xid_text(self._root), *(one.text for one in seen))
        return "".join(parts) + render(own, SELF)


def main(argv: list[str], root: Path = Path("/")) -> None:
    """Serve until the service is stopped; what `argv` may say is in `add_options`."""
    parser = argparse.ArgumentParser(prog="imgnode exporter")
    add_options(parser)
    serve(parser.parse_args(argv), root)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add what may differ from what the image says; for tests, and for people."""
    parser.add_argument("--listen", metavar="ADDRESS", help="instead of the site's address")
    parser.add_argument("--port", type=int, help="instead of the image's port; 0: any")
    parser.add_argument("--web.config.file", dest="web", metavar="FILE", help="TLS and users")


def serve(given: argparse.Namespace, root: Path = Path("/")) -> None:
    """Serve until the service is stopped. Ends with 2 where the image or a setting is wrong."""
    try:
        place = read_place(given, root)
        admit, tls = _doors(Path(given.web)) if given.web else (None, None)
        exporter = Exporter(place, root)
        server = Server((place.listen, place.port), exporter.page, admit=admit, tls=tls)
    except (OSError, ValueError, KeyError, TypeError) as error:
        print(f"imgnode exporter: {error}", file=sys.stderr)
        sys.exit(2)
    signal.signal(signal.SIGTERM, _end)
    threading.Thread(target=exporter.look, daemon=True, name="look").start()
    host, port = server.server_address[:2]
    print(f"listening on {host!s} port {port}", flush=True)
    try:
        server.serve_forever()
    finally:
        exporter.close()


def read_place(given: argparse.Namespace, root: Path) -> Place:
    """Return what the image and the command line say. Raises OSError, KeyError or ValueError."""
    facts = read_json(root / _FACTS)
    if facts is None:
        raise ValueError(f"/{_FACTS}: cannot be understood")
    site = facts.get("monitoring") or {"listen": "127.0.0.1", "ports": {"imgnode": 9101}}
    return Place(
        listen=given.listen or site["listen"],
        port=site["ports"]["imgnode"] if given.port is None else given.port,
        gpus=facts.get("gpu") is not None,
        vllm=facts["serve"]["port"],
    )


def _doors(path: Path) -> tuple[Callable[[str], bool] | None, Wrap | None]:
    """Return who is let in, and how connections are made safe; most nodes need neither."""
    if path.read_text().strip() in _EMPTY:
        return None, None
    # 9 MB of memory that only those pay who use it.
    from imgnode.exporter.users import Users  # noqa: PLC0415
    from imgnode.exporter.webconfig import read  # noqa: PLC0415

    config = read(path)
    return (Users(config.users).admit if config.users else None), config.tls


def _end(*_: object) -> NoReturn:
    sys.exit(0)


def _memory() -> int:
    """Return our resident memory in bytes (proc_pid_statm(5))."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * _PAGE
