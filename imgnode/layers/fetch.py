"""Fetches layer files from the release server, going on where it stopped.

Nothing that the server sends is believed: size and sha256 come from the image's own list.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from pathlib import Path

from imgnode.download import Patience, download
from imgnode.layers.store import Store, intact, size_of
from imgnode.payload import LayerFile
from imgnode.problems import Problem

_FACTS = Path("usr/lib/imgnode/image.json")
_TRIES = 2  # a part left by a power cut may hold anything: once more from nothing


@dataclass
class Server:
    """Where files are fetched from; all of one run share one patience."""

    url: str | None
    patience: Patience = field(default_factory=Patience)

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
        problem = _room(file, store, label)
        if problem:
            return problem
        said = download(server.address(file), store.part(file), file.bytes, server.patience)
        if said:
            return _unfetched(file, store, server, label, said)
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


def _unfetched(file: LayerFile, store: Store, server: Server, label: str, said: str) -> Problem:
    fact = f"is not in {store.folder} and cannot be fetched from {server.address(file)}: {said}"
    return Problem(label, fact, f"mend the way to the server, or {_by_hand(file)}")


def _by_hand(file: LayerFile) -> str:
    return f"copy {file.name} there from a release or another node; then: imgnode layers apply"
