"""`imgbuild show`: the resolved specification, and where each value came from."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from builder.cli import options
from builder.core.paths import Project
from builder.model.spec import Spec
from builder.resolve import resolve


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
    Console(soft_wrap=True, markup=False).print(_table(spec))


def _table(spec: Spec) -> Table:
    table = Table(box=None, pad_edge=False)
    for heading in ("KEY", "VALUE", "SET IN"):
        table.add_column(heading)
    resolved = spec.model_dump(mode="json", include={"profile", "site"})
    for path, value in _leaves(resolved, ""):
        table.add_row(path, _shown(value), spec.origins.get(path, ""))
    table.add_row("packages", " ".join(spec.packages), "image/packages/")
    return table


def _leaves(value: Any, path: str) -> Iterator[tuple[str, Any]]:  # noqa: ANN401 - any JSON value
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            yield from _leaves(inner, f"{path}.{key}" if path else key)
    else:
        yield path, value


def _shown(value: Any) -> str:  # noqa: ANN401 - any JSON value
    if isinstance(value, list):
        return ", ".join(_shown(item) for item in value)
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {_shown(inner)}" for key, inner in value.items()) + "}"
    return "" if value is None else str(value)
