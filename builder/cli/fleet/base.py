"""What commands of the fleet share: where things lie, who asks, how it looks."""

from __future__ import annotations

import getpass
import hashlib
import json
import socket
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import click

from builder.core.paths import Project
from builder.core.process import Runner
from builder.fleet.engine import Engine
from builder.fleet.nodes import Node
from builder.fleet.place import Place, read_nodes
from builder.fleet.store import Store

Function = TypeVar("Function", bound=Callable[..., Any])

_inventory = click.option(
    "--inventory",
    "-i",
    type=click.Path(path_type=Path),
    help="Ansible's inventory; default: fleet/inventory.yml",
)
_state = click.option(
    "--state",
    type=click.Path(path_type=Path),
    help="folder for jobs and answers; default: one of the inventory's own in out/fleet",
)
limit = click.option("--limit", "-l", metavar="PATTERN", help="these nodes or groups alone")
as_json = click.option("--json", "as_json", is_flag=True, help="for machines")


def place(function: Function) -> Function:
    """Add the options that say where the fleet's files lie."""
    return _inventory(_state(function))


@dataclass(frozen=True)
class Fleet:
    """One inventory, and all that works on it."""

    project: Project
    place: Place
    runner: Runner
    engine: Engine
    store: Store

    def nodes(self, limit: str | None = None) -> tuple[Node, ...]:
        """Return the nodes of the inventory. Raises UserError."""
        return read_nodes(self.place, self.runner, limit)


def open_fleet(inventory: Path | None, state: Path | None) -> Fleet:
    """Return the fleet of an inventory. Raises UserError outside of a project."""
    project = Project.find()
    folder = project.root / "fleet"
    chosen = (inventory or folder / "inventory.yml").absolute()
    kept = (state or project.out / "fleet" / _name(chosen, folder)).absolute()
    where = Place(folder, chosen, kept)
    return Fleet(project, where, Runner(), Engine(where), Store(kept))


def _name(inventory: Path, folder: Path) -> str:
    """Return what an inventory's state goes by: two sites may both call theirs inventory.yml."""
    if inventory.parent == folder:
        return inventory.stem
    digest = hashlib.sha256(str(inventory).encode()).hexdigest()
    return f"{inventory.stem}-{digest[:8]}"


def who() -> str:
    """Return who asks, for the nodes' journals."""
    return f"{getpass.getuser()}@{socket.gethostname()}"


def emit(value: Mapping[str, Any] | Iterable[Any]) -> None:
    """Print one JSON value on one line."""
    sys.stdout.write(f"{json.dumps(value)}\n")
    sys.stdout.flush()
