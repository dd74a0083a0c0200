"""From a recipe and its lock to an image layout: Debian below, layers of wheels above."""

from __future__ import annotations

from pathlib import Path

from builder.containers.debian import build_os
from builder.containers.oci import Blob, image_config, write_layout
from builder.containers.pack import LAYER_EPOCH, TAR, pack
from builder.containers.threads import together
from builder.containers.warm import WARM_LAYER, build_warm
from builder.containers.wheels import WheelLayer, assign, build_wheels
from builder.core.cache import Stage
from builder.core.context import Context
from builder.core.hashing import sha256_file
from builder.core.sandbox import Sandbox
from builder.model.container import ContainerRecipe
from builder.model.lock import Lock

OS_LAYER = "os"


def build_layout(context: Context, tools: Sandbox, recipe: ContainerRecipe, lock: Lock) -> Path:
    """Return the folder with the image layout of a recipe."""
    root, key = build_os(context, tools, recipe, lock)
    wheels = lock.container.wheels if lock.container else ()
    layers = assign(recipe.layers, wheels)

    def tar(layer: WheelLayer | None) -> Path:
        if layer is None:
            return _pack_os(context, tools, root, key)
        return build_wheels(context, tools, recipe, lock, layer, root)

    tars = together(context, tar, [None, *layers])
    titles = [OS_LAYER, *(layer.name for layer in layers)]
    digests = together(context, sha256_file, tars)
    name = lock.container.source.partition(":")[2] if lock.container else ""
    folder = context.project.image / "containers" / name
    if warm := build_warm(context, tools, folder, tars, digests):
        tars, digests = [*tars, warm], [*digests, sha256_file(warm)]
        titles.append(WARM_LAYER)
    blobs = [Blob(*one) for one in zip(titles, tars, digests, strict=True)]
    config = image_config(recipe, blobs, created=lock.epoch, layer_epoch=LAYER_EPOCH)
    stage = Stage("container-oci", {"config": config.decode()}, Path(__file__).parent / "oci.py")
    return context.cache.get(stage, lambda folder: write_layout(folder, config, blobs, name))


def _pack_os(context: Context, tools: Sandbox, root: Path, key: str) -> Path:
    inputs = {"os": key, "tar": tools.digest(TAR)}
    stage = Stage("container-tar", inputs, Path(__file__).parent / "pack.py")
    result = context.cache.get(stage, lambda folder: pack(tools, root, folder / "layer.tar"))
    return result / "layer.tar"
