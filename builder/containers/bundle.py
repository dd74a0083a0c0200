"""Model bundles: weights that belong to a version, as one sealed file of the layer store.

The recipe's `convert.py` runs in the container's own root, where the libraries are that
read weights, without network. What it writes is sealed as it is: weights do not compress.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

from builder.containers.inside import inside
from builder.containers.pack import LAYER_EPOCH, normalise
from builder.containers.seal import Sealed, seal
from builder.containers.wheels import PACKAGES, unpack
from builder.core.context import Context
from builder.core.errors import UserError
from builder.core.hashing import sha256_file
from builder.core.sandbox import Sandbox
from builder.core.wheels import checked_wheel
from builder.model.container import BundleRecipe, ModelBundle
from builder.model.lock import LockedWheel

_CONVERT = "convert.py"
_REQUIRED = "config.json"


def build_bundle(
    context: Context,
    tools: Sandbox,
    name: str,
    recipe: BundleRecipe,
    wheels: Sequence[LockedWheel],
    layout: Path,
) -> tuple[ModelBundle, Sealed]:
    """Return the bundle `name` and its sealed file; `layout` holds the container image (OCI).

    Raises UserError when the conversion leaves no model behind.
    """
    script = context.project.image / "models" / name / _CONVERT
    inputs = {
        "wheels": [wheel.sha256 for wheel in wheels],
        "convert": sha256_file(script),
        "container": sha256_file(layout / "index.json"),
    }

    def fill(tree: Path) -> None:
        with context.cache.workspace("convert") as work:
            _convert(context, tools, script, wheels, layout, work)
            for path in sorted((work / "out").iterdir()):
                path.rename(tree / path.name)
        if not (tree / _REQUIRED).is_file():
            raise UserError(f"{script}: left no {_REQUIRED}", hint="it must write a whole model")
        normalise(tree)

    salt = hashlib.sha256(f"{recipe.model}@{recipe.revision}".encode()).hexdigest()
    sealed = seal(
        context, tools, f"model-{name}", inputs, fill, compress=False, epoch=LAYER_EPOCH, salt=salt
    )
    bundle = ModelBundle(
        model=recipe.model, revision=recipe.revision, root_hash=sealed.file.root_hash
    )
    return bundle, sealed


def _convert(
    context: Context,
    tools: Sandbox,
    script: Path,
    wheels: Sequence[LockedWheel],
    layout: Path,
    work: Path,
) -> None:
    folders = {"in": work / "in", "out": work / "out"}
    for folder in folders.values():
        folder.mkdir()
    for wheel in wheels:
        unpack(checked_wheel(context.cache.root, wheel), folders["in"])
    source = f"/mnt/in/{PACKAGES}"
    with inside(context, tools, _blobs(layout)) as root:
        root.run(script, folders, [source, "/mnt/out"], {"PYTHONPATH": source})


def _blobs(layout: Path) -> list[Path]:
    """Return the layers' blobs, lowest first (OCI image layout)."""
    blobs = layout / "blobs" / "sha256"
    index = json.loads((layout / "index.json").read_text())
    manifest = json.loads((blobs / index["manifests"][0]["digest"][7:]).read_text())
    return [blobs / layer["digest"][7:] for layer in manifest["layers"]]
