"""Gathers the bill of materials of an image from its lock, its manifest and its root."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from packageurl import PackageURL

from builder.core.hashing import sha256_value
from builder.model.artifacts import Manifest
from builder.model.bill import Bill, Component
from builder.model.container import ContainerImage, Payload
from builder.model.lock import Lock
from builder.sbom.debian import deb_components, deb_key
from builder.sbom.modules import module_components
from builder.sbom.wheels import wheel_components

_LISTS = "usr/lib/sysimage/dpkg/info"
_CONTAINER = "container"


def gather(
    manifest: Manifest, lock: Lock, debian: frozenset[int], root: Path, cache: Path, tool: str
) -> Bill:
    """Return everything that an image consists of; the same inputs give the same bill.

    `lock` is the one it was built from, `debian` are its archives that Debian signs, `root` is
    the image's tree, `cache` the cache folder with packages and wheels,
    `tool` the version of imgbuild.
    """
    container = _CONTAINER if manifest.payload.container else None
    packaged = deb_components(lock.packages, debian, root, cache, container)
    wheels = lock.container.wheels if lock.container else ()
    keys = {one.name: deb_key(one) for one in lock.tree("image")}
    components = [
        *packaged.components,
        *wheel_components(wheels, cache, container),
        *wheel_components(lock.wheels, cache, None),
        *_payload(manifest.payload),
        *module_components(root, _owners(root, keys)),
        Component(key="own-imgnode", kind="own", name="imgnode", version=tool, part_of=()),
    ]
    unique = {one.key: one for one in components}
    return Bill(
        image_id=manifest.image_id,
        version=manifest.version,
        epoch=manifest.epoch,
        tool=tool,
        digest=sha256_value(manifest.model_dump(mode="json")),
        components=tuple(unique[key] for key in sorted(unique)),
        texts=tuple(packaged.texts[ref] for ref in sorted(packaged.texts)),
    )


def _owners(root: Path, keys: dict[str, str]) -> dict[str, str]:
    """Return the key of the package that brings each module and firmware file."""
    found = {}
    for listing in sorted((root / _LISTS).glob("*.list")):
        key = keys.get(listing.stem.partition(":")[0])
        lines = listing.read_text(errors="surrogateescape").splitlines() if key else ()
        for line in lines:
            path = line.lstrip("/")
            path = path if path.startswith("usr/") else f"usr/{path}"
            if key and path.startswith(("usr/lib/modules/", "usr/lib/firmware/")):
                found[path] = key
    return found


def _payload(payload: Payload) -> Iterator[Component]:
    """Yield the container, its layers, and the models."""
    files = {one.root_hash: one for one in payload.files}
    if payload.container:
        yield _image(payload.container)
        for layer in payload.container.layers:
            yield Component(
                key=f"layer-{layer.diff_id[:16]}",
                kind="layer",
                name=layer.title,
                version=None,
                sha256=files[layer.root_hash].sha256,
                part_of=(_CONTAINER,),
                notes={"diff-id": f"sha256:{layer.diff_id}", "root-hash": layer.root_hash},
            )
    for model in payload.models:
        yield Component(
            key=f"model-{model.root_hash[:16]}",
            kind="model",
            name=model.model,
            version=model.revision,
            sha256=files[model.root_hash].sha256,
            part_of=(),
            notes={"root-hash": model.root_hash},
        )


def _image(image: ContainerImage) -> Component:
    name = image.repository.rpartition("/")[2].lower()
    return Component(
        key=_CONTAINER,
        kind="container",
        name=image.repository,
        version=image.tag,
        purl=PackageURL("oci", None, name, f"sha256:{image.digest}").to_string(),
        part_of=(),
        notes={"digest": f"sha256:{image.digest}", "image-id": f"sha256:{image.image_id}"},
    )
