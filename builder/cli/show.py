"""`imgbuild show`: the resolved specification, and where each value came from."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import click
from pydantic import BaseModel, ByteSize
from rich.table import Table

from builder.cli import options
from builder.cli.tables import show, table
from builder.core.paths import Project
from builder.model.spec import Spec
from builder.resolve import resolve

_UNITS = (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10))
_COUNTED = ("remove", "strip")  # of a recipe: long lists that say little


@click.command("show")
@options.profile
@options.site
@click.option("--json", "as_json", is_flag=True, help="for machines")
def command(profile: str, site: str, as_json: bool) -> None:
    """Show what a profile resolves to, and which file set each value."""
    spec = resolve(Project.find(), profile, site)
    if as_json:
        print(spec.model_dump_json(indent=1))
        return
    show(_table(spec))


def _table(spec: Spec) -> Table:
    rows = table("KEY", "VALUE", "SET IN")
    for path, value in _leaves({"profile": spec.profile, "site": spec.site}, ""):
        rows.add_row(path, _shown(value), _origin(spec, path))
    rows.add_row("packages", " ".join(spec.packages), "image/packages/")
    for path, text, file in _recipes(spec):
        rows.add_row(path, text, file)
    return rows


def _recipes(spec: Spec) -> Iterator[tuple[str, str, str]]:
    """Yield what the recipes say: of the container, the model bundles, the site's driver."""
    if spec.recipe is not None:
        name = (spec.profile.container or "").partition(":")[2]
        file = f"image/containers/{name}/recipe.yaml"
        for path, value in _leaves(spec.recipe, "container"):
            if path.startswith("container.layers["):
                continue
            counted = path.rpartition(".")[2] in _COUNTED
            yield path, f"{len(value)} globs" if counted else _shown(value), file
        for layer in spec.recipe.layers:
            yield f"container.layers.{layer.name}", _shown(layer.wheels), file
    for name, bundle in spec.bundles.items():
        file = f"image/models/{name}/recipe.yaml"
        for path, value in _leaves(bundle, f"models.{name}"):
            yield path, _shown(value), file
    if spec.driver is not None:
        file = f"image/drivers/{spec.site.gpu.driver}.yaml"
        for path, value in _leaves(spec.driver, "driver"):
            yield path, _shown(value), file


def _origin(spec: Spec, path: str) -> str:
    """Return the file that set a value: it may have set it as a part of a whole."""
    while path and path not in spec.origins:
        path = path.rstrip("]").rpartition("[")[0] if path.endswith("]") else _above(path)
    return spec.origins.get(path, "")


def _above(path: str) -> str:
    return path.rpartition(".")[0]


def _leaves(value: Any, path: str) -> Iterator[tuple[str, Any]]:  # noqa: ANN401 - any value
    if isinstance(value, BaseModel):
        value = dict(value)
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            yield from _leaves(inner, f"{path}.{key}" if path else key)
    elif isinstance(value, tuple) and any(isinstance(inner, BaseModel) for inner in value):
        for number, inner in enumerate(value):
            yield from _leaves(inner, f"{path}[{number}]")
    else:
        yield path, value


def _shown(value: Any) -> str:  # noqa: ANN401 - any value
    if isinstance(value, tuple):
        return ", ".join(_shown(item) for item in value)
    if isinstance(value, ByteSize):
        return _size(value)
    if isinstance(value, bool):
        return str(value).lower()  # as YAML writes it
    return "" if value is None or value == {} else str(value)


def _size(count: int) -> str:
    """Return a size as a profile writes it."""
    for unit, each in _UNITS:
        if count and count % each == 0:
            return f"{count // each}{unit}"
    return str(count)
