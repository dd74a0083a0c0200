"""`imgbuild fleet status` and `plan`: how nodes are, and what would change."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from builder.cli.fleet import base, options
from builder.cli.tables import show, table
from builder.fleet import start, survey
from builder.fleet.job import WAITING, Job, Limits
from builder.fleet.nodes import Node
from builder.fleet.survey import Condition
from builder.fleet.waves import all_waves, serving_by_model

_MINUTE_S = 60


@click.command("status")
@base.place
@base.limit
@base.as_json
def status(inventory: Path | None, state: Path | None, limit: str | None, as_json: bool) -> None:
    """Ask every node how it is.

    Ends with 1 where one does not answer, or is not well.
    """
    fleet = base.open_fleet(inventory, state)
    nodes = fleet.nodes(limit)
    known = survey.survey(nodes, fleet.engine, fleet.store)
    job, busy = fleet.store.load(), fleet.store.busy()
    if as_json:
        told = {"nodes": [asdict(one) for one in known.values()], "job": job and _short(job)}
        base.emit(told)
    else:
        _table(nodes, known)
        if job is not None:
            hint = "" if job.over or busy else " (hint: imgbuild fleet resume)"
            print(f"{job.kind} {job.name}: {job.stands(busy=busy)}{hint}")
    ill = [one for one in known.values() if not one.answers or one.level == "failed"]
    raise click.exceptions.Exit(1 if ill else 0)


@click.command("plan")
@click.argument("version")
@base.place
@base.limit
@options.waves
@click.option("--refresh", is_flag=True, help="ask the nodes, even if they were just asked")
@base.as_json
def plan(
    version: str,
    inventory: Path | None,
    state: Path | None,
    limit: str | None,
    limits: Limits,
    refresh: bool,
    as_json: bool,
) -> None:
    """Say who would take VERSION, and when.

    Names the nodes of each wave, and those that are left and why; changes nothing.
    """
    options.check_version(version)
    fleet = base.open_fleet(inventory, state)
    nodes = fleet.nodes()
    wanted = fleet.nodes(limit) if limit else nodes
    kept = None if refresh else survey.remembered(nodes, fleet.store, time.time())
    known, age = kept or (survey.survey(nodes, fleet.engine, fleet.store), 0.0)
    job = start.rollout(wanted, known, version, limits, base.who(), {})
    everybody = start.candidates(job, nodes, known)
    waiting = set(job.of([WAITING]))
    left = [one for one in everybody if one.name in waiting]
    waves, held = all_waves(left, serving_by_model(everybody), limits)
    if as_json:
        rest = {name: one.model_dump() for name, one in job.hosts.items() if one.outcome != WAITING}
        base.emit({"version": version, "age_s": age, "waves": waves, "held": held, "left": rest})
        return
    _print_plan(job, known, waves, held, age)


def _print_plan(
    job: Job,
    known: Mapping[str, Condition],
    waves: Sequence[Sequence[str]],
    held: Sequence[str],
    age: float,
) -> None:
    rows = table("wave", "nodes", "which", "from", right=("nodes",))
    for number, wave in enumerate(waves):
        versions = Counter(known[name].version for name in wave)
        now = ", ".join(f"{version} ({count})" for version, count in versions.items())
        rows.add_row("canary" if number == 0 else str(number), str(len(wave)), " ".join(wave), now)
    if waves:
        show(rows)
    else:
        print("nothing is to be done")
    for name in held:
        print(f"{name}: held back: too few serve {known[name].serving} (hint: --min-replicas)")
    for name, one in job.hosts.items():
        if one.outcome != WAITING:
            print(f"{name}: left: {one.outcome} {one.text or one.version}".rstrip())
    if age:
        span = f"{age:.0f} s" if age < _MINUTE_S else f"{age / _MINUTE_S:.0f} minutes"
        print(f"nodes were asked {span} ago (hint: --refresh)")


def _table(nodes: Sequence[Node], known: Mapping[str, Condition]) -> None:
    rows = table("node", "rack", "version", "health", "serving", "notes")
    for node in nodes:
        one = known[node.name]
        health = one.level or ("-" if one.answers else "SILENT")
        other = node.model and one.serving and one.serving != node.model
        notes = [one.text, "maintenance" if one.maintenance else ""]
        notes += [f"inventory: {node.model}"] if other else []
        text = "; ".join(filter(None, notes))
        rows.add_row(node.name, node.rack, one.version, health, one.serving or "-", text)
    show(rows)


def _short(job: Job) -> dict[str, Any]:
    return {"name": job.name, "kind": job.kind, "state": job.state, "counts": job.counts()}


COMMANDS = (status, plan)
