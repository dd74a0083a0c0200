"""Fetches layer files from the release server, going on where it stopped.

Nothing that the server sends is believed: size and sha256 come from the image's own list.
"""

from __future__ import annotations

import json
import os
import time
from dataclasses import dataclass, field
from pathlib import Path

from imgnode import process
from imgnode.layers.store import Store, intact, size_of
from imgnode.payload import LayerFile
from imgnode.problems import Problem

_FACTS = Path("usr/lib/imgnode/image.json")
_TRY_S = 3600  # of one curl; a file that still grows gets another
_PAUSE_S = 3
_PATIENCE_S = 120
_TRIES = 2  # a part left by a power cut may hold anything: once more from nothing
_CURL = (
    *("curl", "--disable", "--fail", "--silent", "--show-error"),
    *("--location", "--max-redirs", "5", "--proto", "=http,https"),
    *("--connect-timeout", "10", "--speed-limit", "1024", "--speed-time", "30"),
    *("--max-time", str(_TRY_S), "--continue-at", "-", "--write-out", "%{http_code}"),
)
_HTTP_ERROR, _NO_RANGES = 22, 33  # curl(1), exit codes
_FINAL = {1, 3, 23, 63, 127}  # bad URL (two kinds), disk full, too large, no curl
_RANGE_REFUSED = "416"
_PASSING = {"408", "425", "429"}  # of the 4xx, those that another try may mend


@dataclass
class Server:
    """Where files are fetched from; all of one run share one patience.

    It is renewed by every try that brought something, and gone when nothing came for as long.
    """

    url: str | None
    patience_s: float = _PATIENCE_S
    until: float = field(init=False)

    def __post_init__(self) -> None:
        self.renew()

    def renew(self) -> None:
        """Wait for the whole time again."""
        self.until = time.monotonic() + self.patience_s

    def address(self, file: LayerFile) -> str:
        """Return the URL of a file."""
        return f"{(self.url or '').rstrip('/')}/layers/{file.name}"


def read_server(root: Path = Path("/")) -> Server:
    """Return the release server of the site (`releases` in image.json), which may be none."""
    try:
        url = json.loads((root / _FACTS).read_text()).get("releases")
    except (OSError, ValueError):
        url = None
    return Server(url if isinstance(url, str) and url else None)


def fetch(file: LayerFile, store: Store, server: Server, label: str) -> Problem | None:
    """Bring a file into the store, whole and flushed, or say why not. Raises OSError for /var.

    May take as long as the server goes on sending; without a byte, two minutes per run.
    """
    if server.url is None:
        fact = f"is not in {store.folder}, and this image names no release server"
        return Problem(label, fact, _by_hand(file))
    store.part(file).parent.mkdir(parents=True, exist_ok=True)
    for _ in range(_TRIES):
        problem = _room(file, store, label) or _download(file, store, server, label)
        if problem:
            return problem
        if intact(store.part(file), file):
            store.adopt(file)
            return None
        store.part(file).unlink(missing_ok=True)
    fact = f"{server.address(file)} has another sha256 than this image names"
    return Problem(label, fact, "the release server holds a wrong file: publish it again")


def _room(file: LayerFile, store: Store, label: str) -> Problem | None:
    """Say when /var is too small; damaged files give way first."""
    needed = file.bytes - (size_of(store.part(file)) or 0)
    if _free(store.folder) < needed:
        store.forget_bad()
    free = _free(store.folder)
    if free >= needed:
        return None
    fact = f"{needed} bytes are to be fetched, {free} are free on {store.folder}"
    return Problem(label, fact, "imgnode layers gc; du -xsh /var/*")


def _free(folder: Path) -> int:
    facts = os.statvfs(folder)
    return facts.f_bavail * facts.f_frsize


def _download(file: LayerFile, store: Store, server: Server, label: str) -> Problem | None:
    """Let the part grow to its full size, try after try."""
    part = store.part(file)
    while True:
        before = size_of(part) or 0
        if before > file.bytes:
            part.unlink()
        elif before == file.bytes:
            return None
        argv = [*_CURL, "--max-filesize", str(file.bytes), "--output", str(part)]
        done = process.run([*argv, server.address(file)], timeout_s=_TRY_S + 60)
        if done.rc == 0:
            return None
        code = done.stdout.strip()[-3:]
        said = " ".join(done.stderr.split())[-200:] or f"curl ended with {done.rc}"
        if done.rc == _NO_RANGES or code == _RANGE_REFUSED:
            part.unlink(missing_ok=True)
        elif (size_of(part) or 0) > before:
            server.renew()
        refused = code.startswith("4") and code not in {*_PASSING, _RANGE_REFUSED}
        final = done.rc in _FINAL or (done.rc == _HTTP_ERROR and refused)
        if final or time.monotonic() >= server.until:
            return _unfetched(file, store, server, label, said)
        time.sleep(_PAUSE_S)


def _unfetched(file: LayerFile, store: Store, server: Server, label: str, said: str) -> Problem:
    fact = f"is not in {store.folder} and cannot be fetched from {server.address(file)}: {said}"
    return Problem(label, fact, f"mend the way to the server, or {_by_hand(file)}")


def _by_hand(file: LayerFile) -> str:
    return f"copy {file.name} there from a release or another node; then: imgnode layers apply"
