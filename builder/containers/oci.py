"""Image layouts, configs and manifests, as the OCI image specification has them."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from builder.core.errors import UserError
from builder.core.hashing import sha256_file
from builder.model.container import ContainerRecipe

_CONFIG = "application/vnd.oci.image.config.v1+json"
_LAYER = "application/vnd.oci.image.layer.v1.tar"
_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
_INDEX = "application/vnd.oci.image.index.v1+json"
_REF = "org.opencontainers.image.ref.name"
_PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_TITLE_MAX = 80


@dataclass(frozen=True)
class Blob:
    """One layer of an image in the making: what it holds, and its uncompressed tar."""

    title: str
    tar: Path
    diff_id: str


@dataclass(frozen=True)
class Layer:
    """One layer of a finished image; `epoch` is when it was made, seconds since 1970."""

    title: str
    diff_id: str
    chain_id: str
    epoch: int


@dataclass(frozen=True)
class Image:
    """What an image layout says of its only image; digests are bare hexadecimal."""

    digest: str
    config_digest: str
    config: str
    ref: str
    layers: tuple[Layer, ...]


def chain_ids(diff_ids: Sequence[str]) -> list[str]:
    """Return for each layer the digest of it and all below (OCI image spec, ChainID)."""
    chain: list[str] = []
    for diff_id in diff_ids:
        both = f"sha256:{chain[-1]} sha256:{diff_id}" if chain else None
        chain.append(hashlib.sha256(both.encode()).hexdigest() if both else diff_id)
    return chain


def image_config(
    recipe: ContainerRecipe, layers: Sequence[Blob], *, created: int, layer_epoch: int
) -> bytes:
    """Return an image's config: the image was made at `created`, all layers at `layer_epoch`."""
    env = [_PATH] if "PATH" not in recipe.env else []
    env += [f"{name}={value}" for name, value in sorted(recipe.env.items())]
    history = [{"created": _date(layer_epoch), "created_by": one.title} for one in layers]
    return _canonical(
        {
            "architecture": "amd64",
            "os": "linux",
            "created": _date(created),
            "config": {"Env": env, "Entrypoint": list(recipe.entrypoint), "WorkingDir": "/"},
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{one.diff_id}" for one in layers]},
            "history": history,
        }
    )


def write_layout(folder: Path, config: bytes, layers: Sequence[Blob], ref: str) -> None:
    """Fill `folder` with an image layout of one image, named `ref`; tars are linked, not copied."""
    blobs = folder / "blobs" / "sha256"
    blobs.mkdir(parents=True)
    for layer in layers:
        if not (blobs / layer.diff_id).exists():
            os.link(layer.tar, blobs / layer.diff_id)
    parts = [_descriptor(_LAYER, one.diff_id, one.tar.stat().st_size) for one in layers]
    head = {"schemaVersion": 2, "mediaType": _MANIFEST}
    manifest = _canonical({**head, "config": _put(blobs, _CONFIG, config), "layers": parts})
    entry = {**_put(blobs, _MANIFEST, manifest), "annotations": {_REF: ref}}
    index = {"schemaVersion": 2, "mediaType": _INDEX, "manifests": [entry]}
    (folder / "index.json").write_bytes(_canonical(index))
    (folder / "oci-layout").write_bytes(_canonical({"imageLayoutVersion": "1.0.0"}))


def read_layout(folder: Path) -> Image:
    """Return what a layout says of its image; raises UserError unless it has exactly one."""
    entries = json.loads((folder / "index.json").read_text())["manifests"]
    if len(entries) != 1 or entries[0].get("mediaType", _MANIFEST) != _MANIFEST:
        raise UserError(
            f"{folder}: holds {len(entries)} images, or none for one machine",
            hint="name the digest of the image for linux/amd64",
        )
    blobs = folder / "blobs" / "sha256"
    digest = _bare(entries[0]["digest"])
    config_digest = _bare(json.loads((blobs / digest).read_text())["config"]["digest"])
    text = (blobs / config_digest).read_bytes().decode()
    ref = entries[0].get("annotations", {}).get(_REF, "")
    return Image(digest, config_digest, text, ref, _layers(json.loads(text)))


def _layers(config: dict[str, Any]) -> tuple[Layer, ...]:
    """Return the layers of a config, each with its history where that is complete."""
    diff_ids = [_bare(digest) for digest in config["rootfs"]["diff_ids"]]
    history = [one for one in config.get("history", []) if not one.get("empty_layer")]
    if len(history) != len(diff_ids):
        history = [{}] * len(diff_ids)
    return tuple(
        Layer(_title(told, number), diff_id, chain_id, _epoch(told.get("created"), config))
        for number, (diff_id, chain_id, told) in enumerate(
            zip(diff_ids, chain_ids(diff_ids), history, strict=True)
        )
    )


def _title(history: dict[str, Any], number: int) -> str:
    text = " ".join(history.get("created_by", "").split())
    return text[:_TITLE_MAX] or f"layer {number}"


def _epoch(created: str | None, config: dict[str, Any]) -> int:
    """Return when a layer was made: the same in every image that has it, so by its history."""
    text = created or config.get("created")
    return max(0, int(datetime.fromisoformat(text).timestamp())) if text else 0


def _date(epoch: int) -> str:
    return datetime.fromtimestamp(epoch, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _put(blobs: Path, kind: str, content: bytes) -> dict[str, Any]:
    path = blobs / "new"
    path.write_bytes(content)
    digest = sha256_file(path)
    path.rename(blobs / digest)
    return _descriptor(kind, digest, len(content))


def _descriptor(kind: str, digest: str, size: int) -> dict[str, Any]:
    return {"mediaType": kind, "digest": f"sha256:{digest}", "size": size}


def _bare(digest: str) -> str:
    """Return the hexadecimal part; raises UserError for what is no SHA-256."""
    kind, _, text = digest.partition(":")
    if kind != "sha256":
        raise UserError(f"{digest}: only images with SHA-256 digests are supported")
    return text


def _canonical(value: object) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()
