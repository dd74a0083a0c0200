"""Fetches files from the release server by curl(1), going on where it stopped.

Nothing that the server sends is believed here, and nothing it says leads elsewhere: redirects
are refused, and no answer can grow beyond what was expected. Callers check the content.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path

from imgnode import process

_TRY_S = 3600  # of one curl; a file that still grows gets another
_PAUSE_S = 3
_PATIENCE_S = 120
_SMALL_S = 60
_CURL = (
    *("curl", "--disable", "--fail", "--silent", "--show-error"),
    *("--connect-timeout", "10", "--speed-limit", "1024", "--speed-time", "30"),
)
_TELL = ("--write-out", "%{http_code}")
_HTTP_ERROR, _NO_RANGES = 22, 33  # curl(1), exit codes
# Bad URL (two kinds), disk full or too large (two kinds), no such file, no curl.
_FINAL = {1, 3, 23, 37, 63, 127}
_RANGE_REFUSED = "416"
_PASSING = {"408", "425", "429"}  # of the 4xx, those that another try may mend


@dataclass
class Patience:
    """How long a run waits for a server: renewed by every try that brought something."""

    seconds: float = _PATIENCE_S
    until: float = field(init=False)

    def __post_init__(self) -> None:
        self.renew()

    def renew(self) -> None:
        """Wait for the whole time again."""
        self.until = time.monotonic() + self.seconds

    @property
    def gone(self) -> bool:
        """Whether nothing came for as long."""
        return time.monotonic() >= self.until


def download(url: str, part: Path, size: int, patience: Patience) -> str | None:
    """Let `part` grow to `size` bytes, try after try; return why it did not, else None.

    What is there already is kept and continued. A server that gives less is for the caller to
    see; one that gives more is cut off (prlimit(1): curl before 8.4 knows no limit of its own
    for an answer without a length).
    """
    while True:
        before = _size(part)
        if before > size:
            part.unlink()
        elif before == size:
            return None
        limits = ("--max-time", str(_TRY_S), "--max-filesize", str(size), "--continue-at", "-")
        done = process.run(_argv(url, part, size, *limits), timeout_s=_TRY_S + 60)
        code = done.stdout.strip()[-3:]
        if done.rc == 0 and not code.startswith("3"):
            return None
        if done.rc == _NO_RANGES or code == _RANGE_REFUSED:
            part.unlink(missing_ok=True)
        elif _size(part) > before:
            patience.renew()
        if _is_final(done.rc, code) or patience.gone:
            return _said(done, code)
        time.sleep(_PAUSE_S)


def fetch_small(url: str, target: Path, limit: int) -> str | None:
    """Fetch a file of at most `limit` bytes anew; return why it could not be had, else None."""
    target.unlink(missing_ok=True)
    limits = ("--max-time", str(_SMALL_S), "--max-filesize", str(limit), "--retry", "2")
    done = process.run(_argv(url, target, limit, *limits), timeout_s=4 * _SMALL_S)
    code = done.stdout.strip()[-3:]
    if done.rc == 0 and not code.startswith("3"):
        return None
    target.unlink(missing_ok=True)
    return _said(done, code)


def stream_argv(url: str, at: int) -> list[str]:
    """Return the command that writes a file from byte `at` on to its standard output.

    It fails where the server cannot go on there. The reader has to count: curl does not.
    """
    words = ("--max-time", str(_TRY_S), "--continue-at", str(at)) if at else ()
    return [*_CURL, *_protocol(url), *words, "--output", "-", url]


def _argv(url: str, target: Path, limit: int, *words: str) -> list[str]:
    curl = ["prlimit", f"--fsize={limit}", *_CURL, *_protocol(url)]
    return [*curl, *_TELL, *words, "--output", str(target), url]


def _protocol(url: str) -> tuple[str, str]:
    """Return what nothing may lead away from: the network, or the installer's medium."""
    return "--proto", "=file" if url.startswith("file:///") else "=http,https"


def _is_final(rc: int, code: str) -> bool:
    refused = code.startswith("4") and code not in {*_PASSING, _RANGE_REFUSED}
    return rc in _FINAL or code.startswith("3") or rc < 0 or (rc == _HTTP_ERROR and refused)


def _said(done: process.Finished, code: str) -> str:
    if code.startswith("3"):
        return f"the server redirects elsewhere ({code}), which is not followed"
    if done.rc < 0:
        return "the server sends more than this file may have"
    return " ".join(done.stderr.split())[-200:] or f"curl ended with {done.rc}"


def _size(path: Path) -> int:
    try:
        return path.lstat().st_size
    except FileNotFoundError:
        return 0
