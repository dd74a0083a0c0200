"""Models that were fetched and are not served: which, and when they were last used."""

from __future__ import annotations

import os
import shutil
import time
from dataclasses import dataclass
from pathlib import Path

from imgnode.models.store import FETCHED, MANIFEST, Weights, everything, fetched_folder
from imgnode.payload import read_payload
from imgnode.serve.choice import Settings, load_proven
from imgnode.serve.facts import read_facts
from imgnode.serve.plan import read_wish


@dataclass(frozen=True)
class Unused:
    """A fetched model that no config names; `used` is when it was last served or fetched."""

    model: str
    revision: str | None
    path: Path
    used: float


def mark_used(weights: Weights) -> None:
    """Note that a fetched model is served now. Raises OSError."""
    if weights.source == FETCHED:
        now = time.time()
        os.utime(weights.path / MANIFEST, (now, now))


def unused(root: Path = Path("/")) -> list[Unused]:
    """Return the fetched models that neither the wanted nor the proven config names, oldest first.

    Raises OSError or ValueError when the image's own files are damaged.
    """
    wanted = [read_wish(read_facts(root).gpus, root).settings, load_proven(root) or {}]
    needed = {_folder(settings, root) for settings in wanted if settings.get("model")}
    found = [
        Unused(one.model, one.revision, one.path, (one.path / MANIFEST).stat().st_mtime)
        for one in everything(read_payload(root), root)
        if one.source == FETCHED and one.path not in needed
    ]
    return sorted(found, key=lambda one: one.used)


def remove(one: Unused) -> None:
    """Remove a model; without its manifest it counts as not there. Raises OSError."""
    (one.path / MANIFEST).unlink(missing_ok=True)
    shutil.rmtree(one.path)
    if not any(one.path.parent.iterdir()):
        one.path.parent.rmdir()


def _folder(settings: Settings, root: Path) -> Path:
    return fetched_folder(settings["model"], settings.get("revision"), root)
