"""vLLM: its own page, of which a declared part is passed on under its own names.

The page is asked for in the background, so that a server that is busy does not hold up who asks
here. It needs no API key: vLLM guards /v1 and its like alone
(vllm/entrypoints/serve/middleware/authenticate.py of 0.32.0).
"""

from __future__ import annotations

import re
import socket
import time
from collections.abc import Iterable, Iterator
from itertools import islice

from imgnode.exporter.names import PASSED, VLLM
from imgnode.metrics import Samples, render

LIMIT_S = 5.0
_HERE = "127.0.0.1"
_MAX = 8 << 20  # bytes; the page of one engine has 100 kB
_READ = 1 << 16
_PARTS = {"histogram": ("_bucket", "_sum", "_count"), "gauge": ("",), "counter": ("",)}
_FAMILY = {
    family + part: family for family, (kind, _) in PASSED.items() for part in _PARTS[kind]
}  # by the name of a series
# A series as a sound server writes it: what else there is would spoil the whole page.
_SERIES = re.compile(
    r'([a-z0-9_:]+)(?:\{(?:[a-zA-Z_]\w*="(?:[^"\\]|\\["\\n])*"(?:,(?=[a-zA-Z_]))?)*\})?', re.ASCII
)
_VALUE = re.compile(r"[+-]?(?:\d+(?:\.\d*)?(?:e[+-]?\d+)?|Inf)|NaN", re.ASCII)
_MOST = 2000  # series: eight engines have a quarter of it
_RATES = {
    "imgnode_vllm_generation_tokens_per_second": "vllm:generation_tokens_total",
    "imgnode_vllm_prompt_tokens_per_second": "vllm:prompt_tokens_total",
}


class VllmCollector:
    """Asks the server on this node; `text` is what it last said, "" while it does not answer."""

    name = "vllm"

    def __init__(self, port: int) -> None:
        self.text, self.when = "", 0.0
        self._port = port
        self._before: tuple[float, dict[str, float]] | None = None

    def collect(self) -> None:
        """Ask once, for at most some seconds; a server that is not there is no fault here."""
        try:
            series = dict(islice(passed(fetch(self._port).split("\n")), _MOST))
        except (OSError, ValueError):
            self.text, self._before = "", None
            return
        now = time.monotonic()
        totals = {name: _total(series, name) for name in _RATES.values()}
        self.text, self.when = as_text(series) + self._rates(now, totals), time.time()
        self._before = now, totals

    def _rates(self, now: float, totals: dict[str, float]) -> str:
        """Return tokens per second since the page before; a server that began anew has none."""
        if self._before is None:
            return ""
        then, old = self._before
        rates: dict[str, Samples] = {
            name: {(): (totals[total] - old[total]) / (now - then)}
            for name, total in _RATES.items()
            if totals[total] >= old[total]
        }
        return render(rates, VLLM) if rates else ""


def passed(lines: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Yield the series to be passed on: name and labels, and the value as vLLM wrote it."""
    for line in lines:
        series, _, value = line.rpartition(" ")
        told = _SERIES.fullmatch(series)
        if told and told[1] in _FAMILY and _VALUE.fullmatch(value):
            yield series, value


def as_text(series: dict[str, str]) -> str:
    """Return the series by family, each under its head."""
    families: dict[str, list[str]] = {}
    for name, value in series.items():
        family = _FAMILY[name.partition("{")[0]]
        families.setdefault(family, []).append(f"{name} {value}\n")
    return "".join(
        f"# HELP {name} {PASSED[name][1]}\n# TYPE {name} {PASSED[name][0]}\n{''.join(lines)}"
        for name, lines in families.items()
    )


def _total(series: dict[str, str], name: str) -> float:
    """Return the sum over engines."""
    return sum(float(value) for key, value in series.items() if key.partition("{")[0] == name)


def fetch(port: int, path: str = "/metrics") -> str:
    """Return a page of the server on this node. Raises OSError or ValueError.

    By HTTP/1.0 (RFC 1945), so that the answer comes in one piece and ends with the connection;
    http.client takes 5 MB of memory, more than the rest of this collector.
    """
    ends = time.monotonic() + LIMIT_S
    with socket.create_connection((_HERE, port), LIMIT_S) as server:
        server.sendall(f"GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n".encode())
        answer = b"".join(_received(server, ends))
    head, _, body = answer.partition(b"\r\n\r\n")
    status = head.decode("latin-1").partition("\r\n")[0]
    if status.split(" ")[1:2] != ["200"]:
        raise ValueError(f"{path}: {status[:80]}")
    return body.decode()


def _received(server: socket.socket, ends: float) -> Iterator[bytes]:
    """Yield what comes until the end of the connection. Raises TimeoutError, ValueError."""
    size = 0
    while (left := ends - time.monotonic()) > 0:
        server.settimeout(left)
        data = server.recv(_READ)
        if not data:
            return
        size += len(data)
        if size > _MAX:
            raise ValueError(f"more than {_MAX} bytes")
        yield data
    raise TimeoutError
