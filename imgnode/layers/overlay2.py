"""What Docker's overlay2 store says about an image whose layers are mounted elsewhere.

Written as dockerd itself would: layer/filestore.go, image/fs.go, reference/store.go and
daemon/graphdriver/overlay2/overlay.go of moby, alike from 20.10 to 28. What dockerd makes up
at random is derived from the layer here, so that the same image gives the same store.
"""

from __future__ import annotations

import base64
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from imgnode.payload import ContainerImage, ContainerLayer

_LAYERS = "image/overlay2/layerdb/sha256"
_IMAGES = "image/overlay2/imagedb/content/sha256"
REFERENCES = "image/overlay2/repositories.json"
_LINK_LETTERS = 26  # overlay.go, idLength
_OFFICIAL = "docker.io/"


@dataclass(frozen=True)
class Entry:
    """One thing in the store; `content` is a file's text or a link's target."""

    path: str
    kind: Literal["folder", "file", "link"]
    content: str = ""


def plan(container: ContainerImage, mounts: Path) -> list[Entry]:
    """Return the store's entries for an image, what is referred to before what refers to it.

    `mounts` is the folder in which each layer is mounted under its root hash. The references
    are apart (`references`), since they share one file with other images. Raises ValueError
    when the image does not agree with its own digests: dockerd would not list it.
    """
    _check(container)
    entries: list[Entry] = []
    lowers: list[str] = []
    parent: ContainerLayer | None = None
    for layer in container.layers:
        entries += _graph(layer, lowers, mounts)
        entries += _metadata(layer, parent)
        lowers.insert(0, f"l/{link_id(layer)}")
        parent = layer
    entries.append(Entry(f"{_IMAGES}/{container.image_id}", "file", container.config))
    return entries


def cache_id(layer: ContainerLayer) -> str:
    """Return the name of a layer's folder in overlay2/."""
    text = f"imgnode {layer.chain_id} {layer.root_hash}"
    return hashlib.sha256(text.encode()).hexdigest()


def link_id(layer: ContainerLayer) -> str:
    """Return the short name of a layer, as mount options use it."""
    digest = hashlib.sha256(cache_id(layer).encode()).digest()
    return base64.b32encode(digest).decode()[:_LINK_LETTERS]


def references(container: ContainerImage, present: str | None) -> str:
    """Return the list of names with those of this image, and all others as they were.

    `present` is the list that is there; what cannot be understood is replaced.
    """
    known = _repositories(present)
    name = _familiar(container.repository)
    image = f"sha256:{container.image_id}"
    others = known.get(name)
    known[name] = {
        **(others if isinstance(others, dict) else {}),
        f"{name}:{container.tag}": image,
        f"{name}@sha256:{container.digest}": image,
    }
    return json.dumps({"Repositories": known}, separators=(",", ":"))


def _check(container: ContainerImage) -> None:
    if hashlib.sha256(container.config.encode()).hexdigest() != container.image_id:
        raise ValueError("the image's config is not the one that its ID names")
    told = json.loads(container.config)["rootfs"]["diff_ids"]
    if told != [f"sha256:{layer.diff_id}" for layer in container.layers]:
        raise ValueError("the image's config names other layers")
    chain = ""
    for layer in container.layers:  # OCI image specification, Layer ChainID
        below = f"sha256:{chain} sha256:{layer.diff_id}"
        chain = hashlib.sha256(below.encode()).hexdigest() if chain else layer.diff_id
        if layer.chain_id != chain:
            raise ValueError(f"layer {layer.title}: its chain ID does not fit the layers below")


def _graph(layer: ContainerLayer, lowers: list[str], mounts: Path) -> list[Entry]:
    """Return what the graph driver knows: files, and what they lie upon."""
    own = f"overlay2/{cache_id(layer)}"
    entries = [
        Entry(f"{own}/diff", "link", str(mounts / layer.root_hash)),
        Entry(f"{own}/link", "file", link_id(layer)),
        Entry(f"{own}/committed", "file"),
        Entry(f"overlay2/l/{link_id(layer)}", "link", f"../{cache_id(layer)}/diff"),
    ]
    if lowers:
        entries.append(Entry(f"{own}/work", "folder"))
        entries.append(Entry(f"{own}/lower", "file", ":".join(lowers)))
    return entries


def _metadata(layer: ContainerLayer, parent: ContainerLayer | None) -> list[Entry]:
    """Return what the layer store knows. Without tar-split.json.gz only `docker save` fails."""
    own = f"{_LAYERS}/{layer.chain_id}"
    entries = [
        Entry(f"{own}/diff", "file", f"sha256:{layer.diff_id}"),
        Entry(f"{own}/size", "file", str(layer.bytes)),
        Entry(f"{own}/cache-id", "file", cache_id(layer)),
    ]
    if parent:
        entries.append(Entry(f"{own}/parent", "file", f"sha256:{parent.chain_id}"))
    return entries


def _familiar(repository: str) -> str:
    """Return a repository's name as Docker's list has it (distribution/reference, FamiliarName)."""
    name = repository.removeprefix(_OFFICIAL)
    if name != repository and name.startswith("library/"):
        name = name.removeprefix("library/")
    return name


def _repositories(present: str | None) -> dict[str, Any]:
    try:
        known = json.loads(present or "{}")["Repositories"]
    except (ValueError, KeyError, TypeError):
        return {}
    return known if isinstance(known, dict) else {}
