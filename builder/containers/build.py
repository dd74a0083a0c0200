"""A container image as files of the layer store: recipe, registry or archive → layers."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from builder.containers.oci import Image, Layer, read_layout
from builder.containers.recipe import build_layout
from builder.containers.remote import REGISTRY, fetch_layout, repository
from builder.containers.seal import Sealed, seal
from builder.containers.threads import together
from builder.containers.unpack import Unpacked, unpacked
from builder.core.context import Context
from builder.core.errors import UserError
from builder.core.hashing import sha256_value
from builder.core.sandbox import Sandbox
from builder.model.container import ContainerImage, ContainerLayer, LayerFile
from builder.model.lock import Lock, LockedContainer
from builder.model.spec import Spec

_SHORT = 12
_PLAIN = re.compile(r"[a-z0-9-]{1,24}")


@dataclass(frozen=True)
class Made:
    """A container image, ready for a node: what it is, its files, and where they lie.

    `paths` has the file of each root hash; `layout` is its OCI image layout; `key` changes
    with the image.
    """

    image: ContainerImage
    files: tuple[LayerFile, ...]
    paths: dict[str, Path]
    layout: Path
    key: str


def build_container(context: Context, tools: Sandbox, spec: Spec, lock: Lock) -> Made | None:
    """Return the container image of the lock, each layer sealed; None where there is none.

    Packages and wheels of the lock must be in the cache. Raises UserError when an image
    cannot be had or is not what the lock names.
    """
    if lock.container is None:
        return None
    if spec.recipe is not None:
        layout = build_layout(context, tools, spec.recipe, lock)
    else:
        layout = fetch_layout(context, tools, spec, lock.container)
    found = read_layout(layout)
    numbers = {layer.diff_id: number for number, layer in enumerate(found.layers)}
    with unpacked(context, tools, layout) as content:

        def make(number: int) -> Sealed:
            return _seal(context, tools, content, found.layers[number], number)

        made = together(context, make, numbers.values())
    by_diff_id = dict(zip(numbers, made, strict=True))
    sealed = [by_diff_id[layer.diff_id] for layer in found.layers]
    return _made(lock.container, layout, found, sealed)


def _seal(context: Context, tools: Sandbox, content: Unpacked, layer: Layer, number: int) -> Sealed:
    name = layer.title if _PLAIN.fullmatch(layer.title) else str(number)
    return seal(
        context,
        tools,
        f"layer-{name}",
        {"diff_id": layer.diff_id},
        lambda folder: content.move(layer.diff_id, folder),
        compress=True,
        epoch=layer.epoch,
        salt=layer.diff_id,
    )


def _made(locked: LockedContainer, layout: Path, found: Image, sealed: list[Sealed]) -> Made:
    layers = tuple(
        ContainerLayer(
            title=layer.title,
            diff_id=layer.diff_id,
            chain_id=layer.chain_id,
            bytes=one.unpacked,
            root_hash=one.file.root_hash,
        )
        for layer, one in zip(found.layers, sealed, strict=True)
    )
    by_hash = {one.file.root_hash: one for one in sealed}
    name, tag, digest = _named(locked, found)
    image = ContainerImage(
        repository=name,
        tag=tag,
        digest=digest,
        image_id=found.config_digest,
        config=found.config,
        layers=layers,
    )
    return Made(
        image=image,
        files=tuple(one.file for one in by_hash.values()),
        paths={root_hash: one.path for root_hash, one in by_hash.items()},
        layout=layout,
        key=sha256_value(image.model_dump()),
    )


def _named(locked: LockedContainer, found: Image) -> tuple[str, str, str]:
    """Return repository, tag and digest: a registry's own, or ours and the layout's."""
    kind, _, rest = locked.source.partition(":")
    if locked.source.startswith(REGISTRY):
        if locked.digest is None:
            raise UserError("the lock has no digest for the container", hint="lock anew")
        name, tag = repository(locked.source)
        return name, tag or locked.digest[:_SHORT], locked.digest
    stem = rest if kind == "recipe" else Path(rest).stem.lower()
    return f"imgnode/{stem}", found.digest[:_SHORT], found.digest
