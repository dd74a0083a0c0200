"""What an image is made of and what each part takes: what a node stores, and an update moves."""

from __future__ import annotations

from collections.abc import Sequence

from builder.model.artifacts import Artifact, Manifest
from builder.model.container import Payload
from builder.model.difference import Kind, Part

# Every artifact that a node gets; the initrd lies in the UKI, too.
_KINDS: dict[str, Kind] = {"root.erofs": "root", "root.verity": "root", "uki.efi": "uki"}
_TITLES = {"root.erofs": "file system", "root.verity": "hash tree", "uki.efi": "kernel, initrd"}


def parts(manifest: Manifest) -> tuple[Part, ...]:
    """Return the files that a node with this image has: root, UKI, layers, models."""
    titles = _titles(manifest.payload)
    layers = manifest.payload.container.layers if manifest.payload.container else ()
    unpacked = {layer.root_hash: layer.bytes for layer in layers}
    own = [_own(one, _KINDS[one.name]) for one in manifest.artifacts if one.name in _KINDS]
    files = [
        Part(
            kind="layer" if file.root_hash in unpacked else "model",
            title=titles.get(file.root_hash, file.root_hash[:12]),
            content=file.sha256,
            bytes=file.bytes,
            unpacked=unpacked.get(file.root_hash),
        )
        for file in manifest.payload.files
    ]
    return (*own, *files)


def total(some: Sequence[Part], *kinds: Kind) -> int:
    """Return the bytes of all parts of the given kinds; of all where none is given."""
    return sum(one.bytes for one in some if not kinds or one.kind in kinds)


def _own(artifact: Artifact, kind: Kind) -> Part:
    return Part(
        kind=kind, title=_TITLES[artifact.name], content=artifact.sha256, bytes=artifact.bytes
    )


def _titles(payload: Payload) -> dict[str, str]:
    """Return what each file holds, by root hash; equal layers are one file."""
    layers = payload.container.layers if payload.container else ()
    named = [(one.root_hash, one.title) for one in layers]
    named += [(one.root_hash, one.model) for one in payload.models]
    found: dict[str, str] = {}
    for root_hash, title in named:
        found[root_hash] = f"{found[root_hash]}, {title}" if root_hash in found else title
    return found
