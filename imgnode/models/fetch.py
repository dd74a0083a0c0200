"""Brings a model from the mirror to the disk; what is complete and checked stays over a stop."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

from imgnode.fault import DISK, FETCH, Fault
from imgnode.files import flush_folder, write_atomic
from imgnode.models.digest import is_right
from imgnode.models.listing import Listing, RemoteFile
from imgnode.models.mirror import Mirror
from imgnode.models.store import (
    FETCHED,
    MAIN,
    MANIFEST,
    PART,
    Weights,
    fetched_folder,
    manifest,
)
from imgnode.serve.facts import read_json

_SPARE = 1 << 30  # left free on /var
_GIB = 1 << 30
_PROMISED = ".listing.json"
Tell = Callable[[str], None]


def fetch(
    model: str, revision: str | None, mirror: Mirror, root: Path, tell: Tell = print
) -> Weights:
    """Fetch a model, resuming an earlier try. Raises Fault, or OSError for the disk.

    Each file is checked before it takes its name, the manifest comes after the last one,
    and the folder takes its name after the manifest.
    """
    rev = revision or MAIN
    target = fetched_folder(model, revision, root)
    part = target.with_name(target.name + PART)
    listing = mirror.list_files(model, rev)
    _prepare(part, listing)
    _check_space(part, listing)
    for number, file in enumerate(listing.files, 1):
        if not (part / file.path).exists():
            tell(f"fetching {model}: {file.path} ({number} of {len(listing.files)})")
            _one(model, listing.commit or rev, file, mirror, part)
    facts = {
        "commit": listing.commit,
        "when": int(time.time()),
        "files": {one.path: {"size": one.size, "digest": one.digest} for one in listing.files},
    }
    (part / _PROMISED).unlink()
    write_atomic(part / MANIFEST, manifest(model, rev, facts))
    if target.exists():
        shutil.rmtree(target)
    part.replace(target)
    flush_folder(target.parent)
    return Weights(model, rev, target, FETCHED)


def _prepare(part: Path, listing: Listing) -> None:
    """Make the folder; throw away what an earlier try has of files that are others by now."""
    part.mkdir(parents=True, exist_ok=True)
    for folder in (part, part.parent):
        folder.chmod(0o755)
    before = read_json(part / _PROMISED) or {}
    now = {one.path: one.digest for one in listing.files}
    for path in part.rglob("*"):
        name = str(path.relative_to(part)).removesuffix(PART)
        if path.is_file() and (name not in now or before.get(name) != now[name]):
            path.unlink()
    write_atomic(part / _PROMISED, json.dumps(now, indent=1) + "\n")


def _check_space(part: Path, listing: Listing) -> None:
    have = sum(one.stat().st_size for one in part.rglob("*") if one.is_file())
    wanted = max(0, listing.bytes - have) + _SPARE
    free = shutil.disk_usage(part).free
    if free < wanted:
        fact = f"/var has {free / _GIB:.1f} GiB free, the model needs {wanted / _GIB:.1f} GiB"
        raise Fault(DISK, fact, "remove models that are not served: imgnode model list")


def _one(model: str, revision: str, file: RemoteFile, mirror: Mirror, part: Path) -> None:
    """Fetch one file and check it; a wrong one is fetched once more, from its beginning."""
    final = part / file.path
    partial = final.with_name(final.name + PART)
    final.parent.mkdir(parents=True, exist_ok=True)
    for _ in range(2):
        have = partial.stat().st_size if partial.exists() else 0
        if have > file.size:
            partial.unlink()
        if have != file.size or not partial.exists():
            mirror.download(model, revision, file, partial)
        if is_right(partial, file):
            partial.chmod(0o644)  # the server runs as another user
            _flush(partial)
            partial.replace(final)
            return
        partial.unlink()
    fact = f"{model}: {file.path} is not what {mirror.address} promised, twice"
    raise Fault(FETCH, fact, "the mirror is damaged or does not fit its own list")


def _flush(path: Path) -> None:
    """Have the content on the disk before the name says that it is complete."""
    with path.open("rb") as stream:
        os.fsync(stream.fileno())
