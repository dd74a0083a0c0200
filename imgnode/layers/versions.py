"""Whose files they are: each version's list in the store, and the removal of what none names.

A version is installed when a partition of the disk that the root lies on bears its stem,
IMAGE_VERSION (sysupdate.d(5), the partition label), and the running one always is.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from imgnode import process
from imgnode.files import write_atomic
from imgnode.layers.mounts import MOUNTS, mount_points
from imgnode.layers.store import Store

_FACTS = Path("usr/lib/imgnode/image.json")
_LISTS = "versions"
_STAGED = Path("var/lib/imgnode/update/stage")  # a folder for each version that is on its way
_OTHER_LABELS = {"", "esp", "cidata", "var", "_empty", "empty"}
_COMMAND_S = 20


@dataclass(frozen=True)
class Garbage:
    """What is to go: files, parts and lists; `blocked` says why nothing is."""

    files: tuple[str, ...] = ()
    parts: tuple[str, ...] = ()
    lists: tuple[str, ...] = ()
    blocked: str | None = None


def running_stem(root: Path = Path("/")) -> str:
    """Return the stem of the running version. Raises OSError, ValueError or KeyError."""
    facts = json.loads((root / _FACTS).read_text())
    return f"{facts['image_id']}_{facts['version']}"


def write_list(stem: str, names: Iterable[str], store: Store) -> None:
    """Say which files a version needs; they stay as long as it is installed. Raises OSError."""
    path = store.folder / _LISTS / f"{stem}.json"
    text = json.dumps({"files": sorted(names)}, indent=1) + "\n"
    if not path.is_file() or path.read_text() != text:
        write_atomic(path, text)


def read_lists(store: Store) -> dict[str, frozenset[str] | None]:
    """Return the files that each version needs, by stem; None for a list that is damaged."""
    found: dict[str, frozenset[str] | None] = {}
    for path in sorted((store.folder / _LISTS).glob("*.json")):
        try:
            found[path.stem] = frozenset(json.loads(path.read_text())["files"])
        except (OSError, ValueError, KeyError, TypeError):
            found[path.stem] = None
    return found


def installed_stems(root: Path = Path("/")) -> set[str] | None:
    """Return the labels of this disk's partitions that name a version; None when unknown."""
    number = root.stat().st_dev
    device = f"/dev/block/{os.major(number)}:{os.minor(number)}"
    above = process.run(["lsblk", "-nrspo", "NAME,TYPE", device], timeout_s=_COMMAND_S)
    rows = [line.split() for line in above.stdout.splitlines()]
    disks = sorted({row[0] for row in rows if row[1:] == ["disk"]})
    if above.rc != 0 or not disks:
        return None
    told = process.run(["lsblk", "-nro", "PARTLABEL", *disks], timeout_s=_COMMAND_S)
    if told.rc != 0:
        return None
    labels = {line.strip() for line in told.stdout.splitlines()}
    return {label for label in labels if label.lower() not in _OTHER_LABELS}


def garbage(
    store: Store,
    lists: Mapping[str, frozenset[str] | None],
    running: str,
    installed: set[str] | None,
) -> Garbage:
    """Return what no installed version needs, or why that cannot be told."""
    if installed is None:
        return Garbage(blocked="this disk's partitions cannot be listed")
    kept = installed | {running}
    unknown = sorted(stem for stem in kept if lists.get(stem) is None)
    if unknown:
        return Garbage(blocked=f"nothing says which files {', '.join(unknown)} needs")
    needed = {name for stem in kept for name in lists[stem] or ()}
    mounted = {path.name for path in mount_points(store.root) if path.parent.name == MOUNTS.name}
    return Garbage(
        files=tuple(
            name
            for name in store.names()
            if name not in needed and name.removesuffix(".erofs") not in mounted
        ),
        parts=tuple(name for name in store.parts() if name not in needed),
        lists=tuple(stem for stem in lists if stem not in kept),
    )


def find_garbage(root: Path = Path("/")) -> Garbage:
    """Return what may go now. Raises OSError, ValueError or KeyError for a damaged image."""
    store, running, installed = Store(root), running_stem(root), installed_stems(root)
    lists = read_lists(store)
    if installed is not None:
        installed |= _staged_stems(root, running) & lists.keys()
    return garbage(store, lists, running, installed)


def _staged_stems(root: Path, running: str) -> set[str]:
    """Return the stems of the versions that an update is bringing."""
    image_id = running.rpartition("_")[0]
    return {f"{image_id}_{folder.name}" for folder in (root / _STAGED).glob("*")}


def remove(found: Garbage, store: Store) -> None:
    """Remove it, lists last: a power cut leaves no file that nobody owns. Raises OSError."""
    for name in found.files:
        (store.folder / name).unlink(missing_ok=True)
    for name in found.parts:
        (store.folder / ".part" / name).unlink(missing_ok=True)
    for stem in found.lists:
        (store.folder / _LISTS / f"{stem}.json").unlink(missing_ok=True)
