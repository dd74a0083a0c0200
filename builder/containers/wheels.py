"""Layers of wheels: unpacked where Debian's Python looks, thinned out, compiled."""

from __future__ import annotations

import fnmatch
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from builder.containers.pack import TAR, code, normalise, pack
from builder.containers.python import compile_all
from builder.core.cache import Stage
from builder.core.context import Context
from builder.core.sandbox import Sandbox
from builder.core.scrub import remove_globs
from builder.core.wheels import checked_wheel, install_wheel
from builder.model.container import ContainerRecipe, RecipeLayer
from builder.model.lock import Lock, LockedWheel

PACKAGES = "usr/local/lib/python3.11/dist-packages"
_STRIP = "usr/bin/strip"
_COMPILERS = ("python3.11", "libpython3.11")  # packages that decide about compiled code


@dataclass(frozen=True)
class WheelLayer:
    """A layer of the recipe and the wheels that go into it."""

    name: str
    wheels: tuple[LockedWheel, ...]


def assign(layers: Sequence[RecipeLayer], wheels: Sequence[LockedWheel]) -> list[WheelLayer]:
    """Return each layer with its wheels, in the recipe's order; empty ones are left out.

    A wheel goes into the first layer that names it in full, otherwise into the first one
    with a glob that fits. What no layer takes is lost: locking has refused that.
    """
    taken: dict[str, list[LockedWheel]] = {layer.name: [] for layer in layers}
    for wheel in wheels:
        exact = [layer for layer in layers if wheel.name in layer.wheels]
        globs = [
            one for one in layers if any(fnmatch.fnmatchcase(wheel.name, g) for g in one.wheels)
        ]
        for layer in (exact or globs)[:1]:
            taken[layer.name].append(wheel)
    return [WheelLayer(name, tuple(found)) for name, found in taken.items() if found]


def build_wheels(
    context: Context,
    tools: Sandbox,
    recipe: ContainerRecipe,
    lock: Lock,
    layer: WheelLayer,
    root: Path,
) -> Path:
    """Return the tar of a layer of wheels, made over the container's Debian in `root`."""
    python = [p for p in lock.digest_inputs("container") if p.startswith(_COMPILERS)]
    inputs = {
        "wheels": [wheel.sha256 for wheel in layer.wheels],
        "python": python,
        "remove": recipe.remove,
        "code": code("pack.py", "python.py"),
        "strip": recipe.strip,
        "by": tools.digest(TAR, _STRIP),
    }

    def make(folder: Path) -> None:
        with context.cache.workspace("wheels") as work:
            tree = work / "tree"
            (tree / PACKAGES).mkdir(parents=True)
            for wheel in layer.wheels:
                unpack(checked_wheel(context.cache.root, wheel), tree)
            remove_globs(tree, recipe.remove)
            _strip(tools, recipe, tree)
            compile_all(context, root, tree, [f"/{PACKAGES}"])
            normalise(tree)
            pack(tools, tree, folder / "layer.tar")

    stage = Stage(f"wheels-{layer.name}", inputs, Path(__file__))
    return context.cache.get(stage, make) / "layer.tar"


def _strip(tools: Sandbox, recipe: ContainerRecipe, tree: Path) -> None:
    """Drop what only debuggers read (strip(1)) from the libraries that the recipe names."""
    found = {path for glob in recipe.strip for path in tree.glob(glob) if path.is_file()}
    if found:
        tools.run(["strip", "--strip-unneeded", "--", *sorted(found)], write=[tree])


def unpack(wheel: Path, tree: Path) -> None:
    """Install a wheel below `tree`, as Debian's Python 3.11 finds it in /usr/local."""
    install_wheel(wheel, tree, "usr/local", PACKAGES)
