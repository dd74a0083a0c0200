"""`imgbuild fleet seeds`, `prometheus`, `proxy`: files that follow from the inventory."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from builder.cli import options
from builder.cli.fleet import base
from builder.core.errors import ConfigError
from builder.core.files import write_atomic
from builder.core.paths import Project
from builder.fleet import prometheus as file_sd
from builder.fleet import proxy as reverse
from builder.fleet import seeds as rendered
from builder.fleet.nodes import Node
from builder.resolve import load_shapes, resolve
from builder.seed.check import Board, check_seed

_output = click.option(
    "--output", "-o", required=True, type=click.Path(path_type=Path), help="folder for the files"
)


@click.command("seeds")
@base.place
@base.limit
@options.site
@_output
@base.as_json
def seeds(
    inventory: Path | None,
    state: Path | None,
    limit: str | None,
    site: str,
    output: Path,
    as_json: bool,
) -> None:
    """Write the seed of each node.

    NODE/user-data, if all of them are good; ends with 2 and what is wrong otherwise.
    """
    fleet = base.open_fleet(inventory, state)
    nodes = fleet.nodes(limit)
    texts, notes = _checked(nodes, fleet.project, site)
    changed = [name for name, text in texts.items() if rendered.write(output, name, text)]
    if as_json:
        base.emit({"seeds": list(texts), "changed": changed, "notes": notes})
        return
    for note in notes:
        print(f"note: {note}")
    print(f"{output}: {len(texts)} seeds, {len(changed)} of them new or changed")


def _checked(
    nodes: Sequence[Node], project: Project, site: str
) -> tuple[dict[str, str], list[str]]:
    """Return every seed, and what is worth knowing. Raises ConfigError with all that is wrong."""
    shapes, boards = load_shapes(project), _boards(nodes, project, site)
    texts: dict[str, str] = {}
    wrong: list[str] = []
    notes: dict[str, list[str]] = {}
    for node in nodes:
        texts[node.name] = rendered.render(node)
        board = boards[node.profile] if node.profile else None
        report = check_seed(texts[node.name].encode(), board, shapes)
        wrong += rendered.problems(node)
        wrong += [f"{node.name}: {problem}" for problem in report.problems]
        for note in report.notes:
            notes.setdefault(note, []).append(node.name)
    if wrong:
        raise ConfigError(wrong)
    return texts, [f"{names[0]} and {len(names) - 1} more: {one}" for one, names in notes.items()]


def _boards(nodes: Sequence[Node], project: Project, site: str) -> dict[str, Board]:
    names = {node.profile for node in nodes if node.profile}
    return {name: Board(name, resolve(project, name, site).profile.gpu) for name in sorted(names)}


@click.command("prometheus")
@base.place
@base.limit
@_output
def prometheus(inventory: Path | None, state: Path | None, limit: str | None, output: Path) -> None:
    """Write targets for Prometheus.

    node.json and imgnode.json, for its file_sd_configs.
    """
    nodes = base.open_fleet(inventory, state).nodes(limit)
    for job in file_sd.PORTS:
        write_atomic(output / f"{job}.json", file_sd.targets(nodes, job))
        print(f"{output / job}.json: {len(nodes)} targets")


@click.command("proxy")
@base.place
@base.limit
@click.option("--listen", default="0.0.0.0", show_default=True)  # noqa: S104 - it is a proxy
@click.option("--port", default=8000, show_default=True, help="of the first model by name")
@click.option("--state-port", default=8404, show_default=True, help="for its page and metrics")
@click.option("--output", "-o", type=click.Path(path_type=Path), help="file; default: stdout")
def proxy(
    inventory: Path | None,
    state: Path | None,
    limit: str | None,
    listen: str,
    port: int,
    state_port: int,
    output: Path | None,
) -> None:
    """Write a configuration of HAProxy.

    A port for each model, over all nodes that serve it.
    """
    fleet = base.open_fleet(inventory, state)
    source = fleet.place.inventory.name
    text = reverse.haproxy(
        fleet.nodes(limit), source=source, listen=listen, port=port, state_port=state_port
    )
    if output is None:
        print(text, end="")
    else:
        write_atomic(output, text)


COMMANDS: Sequence[Any] = (seeds, prometheus, proxy)
