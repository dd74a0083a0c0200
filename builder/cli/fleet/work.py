"""`imgbuild fleet backup`, `restore`, `recover`, `maintenance`, `verify`: one playbook each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from builder.cli.fleet import base
from builder.cli.tables import show, table
from builder.fleet.job import BAD, Result


@click.command("verify")
@base.place
@base.limit
@click.option("--version", help="which all of them should run")
@base.as_json
def verify(version: str | None, **where: Any) -> None:  # noqa: ANN401 - handed on
    """Look whether nodes are well.

    Asks the model, too, where the inventory has a question.
    """
    _play("verify", {"fleet_version": version} if version else {}, **where)


@click.command("backup")
@base.place
@base.limit
@click.option("--now", "order", flag_value="now", help="even where none is due")
@click.option("--try", "order", flag_value="verify", help="unpack the latest and compare it")
@base.as_json
def backup(order: str | None, **where: Any) -> None:  # noqa: ANN401 - handed on
    """Back nodes up where that is due."""
    _play("backup", {"fleet_backup": order or "run"}, **where)


@click.command("restore")
@click.argument("snapshot", default="latest")
@base.place
@click.option("--limit", "-l", metavar="PATTERN", required=True, help="these nodes or groups")
@click.option("--all", "everything", is_flag=True, help="not seed and model settings alone")
@click.option("--from", "source", type=click.Choice(["local", "remote"]))
@base.as_json
def restore(snapshot: str, everything: bool, source: str | None, **where: Any) -> None:  # noqa: ANN401
    """Bring a backup back on nodes."""
    more = {"fleet_restore_all": everything, "fleet_from": source or ""}
    _play("restore", {"fleet_snapshot": snapshot, **more}, **where)


@click.command("recover")
@click.argument("order", type=click.Choice(["status", "run", "pause", "resume", "release"]))
@base.place
@base.limit
@click.option("--even-well", is_flag=True, help="run: on nodes that are well, too")
@base.as_json
def recover(order: str, even_well: bool, **where: Any) -> None:  # noqa: ANN401 - handed on
    """See and steer recovery.

    `run`: the first rung now, on nodes that are not well.
    """
    _play("recovery", {"fleet_recover": order, "fleet_take_sick": even_well}, **where)


@click.command("maintenance")
@click.argument("order", type=click.Choice(["on", "off", "clean"]))
@base.place
@click.option("--limit", "-l", metavar="PATTERN", required=True, help="these nodes or groups")
@click.option("--for", "span", default="2h", show_default=True, help="ends by itself then")
@click.option("--reason", default="", help="for those who wonder")
@base.as_json
def maintenance(order: str, span: str, reason: str, **where: Any) -> None:  # noqa: ANN401
    """Leave nodes to people for a while.

    They drain, and recovery and alerts keep still.
    """
    more = {"fleet_for": span, "fleet_reason": reason or base.who()}
    _play("maintenance", {"fleet_maintenance": order, **more}, **where)


def _play(
    playbook: str,
    variables: Mapping[str, Any],
    *,
    inventory: Path | None,
    state: Path | None,
    limit: str | None,
    as_json: bool,
) -> None:
    """Run a playbook and tell what came of each node (exit 1: of one nothing good)."""
    fleet = base.open_fleet(inventory, state)
    names = [node.name for node in fleet.nodes(limit)]
    asked = {**variables, "fleet_who": base.who(), "fleet_job": playbook}
    answers = fleet.engine.run(playbook, names, asked)
    results = {name: answers.results.get(name, Result(outcome="lost")) for name in names}
    if as_json:
        base.emit({name: one.model_dump() for name, one in results.items()})
    else:
        rows = table("node", "outcome", "what it says")
        for name, one in results.items():
            rows.add_row(name, one.outcome, one.text)
        show(rows)
    bad = any(one.outcome in BAD for one in results.values())
    raise click.exceptions.Exit(1 if bad else 0)


COMMANDS: Sequence[Any] = (verify, backup, restore, recover, maintenance)
