"""Stages a version: everything of it is on this node and checked before a slot is touched.

systemd-sysupdate makes room in the other slot before it writes, so it must never meet a bad
file. What was fetched stays when a run is cut off, and the next one goes on.
"""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path

from imgnode.bootentries import entry_of
from imgnode.files import flush_folder, write_atomic
from imgnode.layers import versions
from imgnode.layers.fetch import fetch as fetch_layer
from imgnode.layers.fetch import read_server
from imgnode.layers.report import label
from imgnode.layers.store import Store, locked, size_of
from imgnode.release.verity import write_tree
from imgnode.update import rebuild
from imgnode.update.facts import Facts
from imgnode.update.offer import Offer
from imgnode.update.recipe import Recipe
from imgnode.update.refused import DAMAGED, FETCH, SPACE, TOO_LARGE, Refused
from imgnode.update.slots import other_slot
from imgnode.update.state import FOLDER

STAGE = FOLDER / "stage"
_READY = "ready.json"
_DEVICE = Path("dev/mapper/root")
_MARGIN = 64 << 20


@dataclass(frozen=True)
class Staged:
    """A version that is ready to be written; the files lie in `folder` by their `names`."""

    folder: Path
    version: str
    root_hash: str
    sha256: dict[str, str]
    fetched: int = 0
    patched: bool = False


def staged(root: Path = Path("/")) -> Staged | None:
    """Return the version that is staged and complete."""
    for path in sorted((root / STAGE).glob(f"*/{_READY}")):
        try:
            return Staged(**{**json.loads(path.read_text()), "folder": path.parent})
        except (OSError, ValueError, TypeError):
            continue
    return None


def clear(root: Path = Path("/"), keep: str | None = None) -> None:
    """Remove what is staged, but for one version. Raises OSError."""
    for folder in (root / STAGE).glob("*"):
        if folder.name != keep:
            (folder / _READY).unlink(missing_ok=True)
            shutil.rmtree(folder)


def stage(offer: Offer, facts: Facts, root: Path = Path("/")) -> Staged:
    """Bring everything of a version onto this node and check it. Raises Refused or OSError."""
    recipe = offer.recipe
    done = staged(root)
    if done and done.version == recipe.version and done.root_hash == recipe.root_hash:
        return done
    clear(root, keep=recipe.version)
    folder = root / STAGE / recipe.version
    folder.mkdir(parents=True, exist_ok=True)
    _check_slot(recipe, facts, root)
    _check_space(offer, folder, root)
    fetcher = rebuild.Fetcher(offer.address, folder)
    patched = _parts(recipe, facts, fetcher, root)
    _layers(offer, root)
    parts = (recipe.root, recipe.verity, recipe.uki)
    sums = {part.install_as: part.sha256 for part in parts}
    for name in sums:
        _flush(folder / name)
    flush_folder(folder)
    done = Staged(folder, recipe.version, recipe.root_hash, sums, fetcher.fetched, patched)
    write_atomic(folder / _READY, json.dumps({**asdict(done), "folder": None}, indent=1) + "\n")
    return done


def _parts(recipe: Recipe, facts: Facts, fetcher: rebuild.Fetcher, root: Path) -> bool:
    """Write root, tree and UKI into the folder; tell whether patches did it."""
    folder = fetcher.folder
    new_root, old_root = folder / recipe.root.install_as, root / _DEVICE
    patched = rebuild.bring(recipe.root, old_root, facts.version, fetcher, new_root)
    tree = folder / recipe.verity.install_as
    try:
        root_hash = write_tree(new_root, tree, salt=recipe.salt, uuid=recipe.uuid)
    except ValueError as error:
        raise Refused(DAMAGED, f"{recipe.root.name} of {recipe.version}: {error}") from None
    if root_hash != recipe.root_hash or rebuild.sha256(tree) != recipe.verity.sha256:
        raise Refused(DAMAGED, f"{recipe.version}: its root has another root hash than it names")
    entry = entry_of(facts.stem, root)
    new_uki = folder / recipe.uki.install_as
    old_uki = entry.path if entry else None
    return rebuild.bring(recipe.uki, old_uki, facts.version, fetcher, new_uki) and patched


def _layers(offer: Offer, root: Path) -> None:
    """Fetch the layer files that this node lacks, and have them kept. Raises Refused."""
    store, server = Store(root), read_server(root)
    with locked(root):
        names = [file.name for file in offer.layers]
        if names:
            versions.write_list(offer.recipe.stem, names, store)
        for file in offer.layers:
            if size_of(store.path(file)) == file.bytes:
                continue
            problem = fetch_layer(file, store, server, label(file, "of the update"))
            if problem:
                raise Refused(FETCH, str(problem))


def _check_slot(recipe: Recipe, facts: Facts, root: Path) -> None:
    slot = other_slot(facts.stem, root)
    for part, size in ((recipe.root, slot.root_bytes), (recipe.verity, slot.verity_bytes)):
        if part.bytes > size:
            fact = f"{part.name} of {recipe.version} has {part.bytes} bytes, the slot {size}"
            raise Refused(TOO_LARGE, fact, "slots cannot grow: install this node anew")


def _check_space(offer: Offer, folder: Path, root: Path) -> None:
    """Raise Refused unless /var has room for staging and for the missing layers."""
    recipe, store = offer.recipe, Store(root)
    missing = sum(f.bytes for f in offer.layers if size_of(store.path(f)) != f.bytes)
    # Slices of the old root beside the new one, or the whole file that it is unpacked from.
    parts = 2 * recipe.root.bytes + recipe.verity.bytes + 2 * recipe.uki.bytes
    have = sum(path.stat().st_size for path in folder.iterdir() if path.is_file())
    needed = max(0, parts - have) + missing + _MARGIN
    facts = os.statvfs(folder)
    free = facts.f_bavail * facts.f_frsize
    if free < needed:
        fact = f"{needed >> 20} MiB are needed on /var, {free >> 20} MiB are free"
        raise Refused(SPACE, fact, "imgnode layers gc; imgnode model list; du -xsh /var/*")


def _flush(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
