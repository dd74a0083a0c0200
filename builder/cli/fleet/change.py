"""`imgbuild fleet rollout`, `update-model`, and how to pause, go on with, and end them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from builder.cli.fleet import base, options
from builder.cli.fleet.base import Fleet
from builder.cli.fleet.screen import screen
from builder.cli.tables import show, table
from builder.core.errors import UserError
from builder.fleet import start, survey
from builder.fleet.conduct import Conductor
from builder.fleet.job import ABORTED, GOOD, HALTED, WAITING, Job, Limits
from builder.fleet.store import ABORT, PAUSE
from imgnode.serve.change import Refused, judge, parse


@click.command("rollout")
@click.argument("version")
@base.place
@base.limit
@options.waves
@click.option("--channel", help="channel that offers it; default: the inventory's, or the node's")
@click.option("--roll-back", is_flag=True, help="when it halts, take it back where it is")
@base.as_json
def rollout(
    version: str,
    inventory: Path | None,
    state: Path | None,
    limit: str | None,
    limits: Limits,
    channel: str | None,
    roll_back: bool,
    as_json: bool,
) -> None:
    """Bring VERSION onto nodes, in waves.

    One node first, then the others. Ends with 1 where it halted, or a node does not have it.
    """
    options.check_version(version)
    fleet = base.open_fleet(inventory, state)
    with fleet.store.lock(f"{base.who()}: rollout of {version}"):
        nodes = fleet.nodes(limit)
        known = survey.survey(nodes, fleet.engine, fleet.store)
        survey.require(known)
        chosen = limits.model_copy(update={"roll_back": roll_back})
        more = {"fleet_channel": channel} if channel else {}
        job = start.rollout(nodes, known, version, chosen, base.who(), more)
        fleet.store.begin(job)
        _go(fleet, job, known, as_json=as_json)


@click.command("update-model")
@click.argument("values", nargs=-1, required=True, metavar="KEY=VALUE…")
@base.place
@base.limit
@options.waves
@base.as_json
def update_model(
    values: tuple[str, ...],
    inventory: Path | None,
    state: Path | None,
    limit: str | None,
    limits: Limits,
    as_json: bool,
) -> None:
    """Change what nodes serve, in waves.

    Values are those of a seed's `inference`, such as model=NAME; one node comes first.
    """
    try:
        wanted = parse(list(values))
        judge({key: None for key, one in wanted.items() if one is None}, None)
        judge({key: one for key, one in wanted.items() if one is not None}, None)
    except Refused as error:
        raise UserError(str(error)) from None
    fleet = base.open_fleet(inventory, state)
    with fleet.store.lock(f"{base.who()}: update of the model"):
        nodes = fleet.nodes(limit)
        known = survey.survey(nodes, fleet.engine, fleet.store)
        survey.require(known)
        job = start.update_model(nodes, known, wanted, limits, base.who())
        fleet.store.begin(job)
        _go(fleet, job, known, as_json=as_json)


@click.command("resume")
@base.place
@base.as_json
def resume(inventory: Path | None, state: Path | None, as_json: bool) -> None:
    """Go on with what was paused, or cut off with this machine."""
    fleet = base.open_fleet(inventory, state)
    with fleet.store.lock(f"{base.who()}: resume"):
        job = fleet.store.load()
        if job is None or job.over:
            raise UserError("there is nothing to go on with", hint="imgbuild fleet status")
        for wish in (PAUSE, ABORT):
            fleet.store.forget(wish)
        nodes = fleet.nodes()
        gone = set(job.hosts) - {one.name for one in nodes}
        if gone:
            raise UserError(f"no longer in the inventory: {', '.join(sorted(gone))}")
        known = survey.survey(nodes, fleet.engine, fleet.store)
        survey.require(known)
        _go(fleet, start.again(job, known), known, as_json=as_json)


@click.command("pause")
@base.place
def pause(inventory: Path | None, state: Path | None) -> None:
    """Stop after the wave at hand.

    `resume` goes on.
    """
    _wish(base.open_fleet(inventory, state), PAUSE)


@click.command("abort")
@base.place
def abort(inventory: Path | None, state: Path | None) -> None:
    """End after the wave at hand.

    Nothing is taken back.
    """
    _wish(base.open_fleet(inventory, state), ABORT)


def _wish(fleet: Fleet, what: str) -> None:
    job = fleet.store.load()
    if job is None or job.over:
        raise UserError(f"there is nothing to {what}")
    try:
        with fleet.store.lock(f"{base.who()}: {what}"):
            # Nobody works: it was paused or cut off.
            if what == ABORT:
                job = job.at(ABORTED, "somebody wanted it so")
                fleet.store.save(job)
            print(f"{job.kind} {job.name}: {job.stands(busy=False)}; nobody works on it")
    except UserError:
        fleet.store.wish(what)
        print(f"{job.kind} {job.name}: after this wave")


def _go(fleet: Fleet, job: Job, known: dict[str, survey.Condition], *, as_json: bool) -> None:
    """Go through a job and what follows from it; ends with exit code 1 where it did not go well."""
    nodes = fleet.nodes()
    missing = [one for one in nodes if one.name not in known]
    if missing:  # they serve, too: a model's replicas are counted over all nodes
        known = {**known, **survey.survey(missing, fleet.engine, fleet.store)}

    with screen(fleet.store.load, as_json=as_json) as (say, step):

        def conduct(one: Job) -> Job:
            there = start.candidates(one, nodes, known)
            return Conductor(fleet.store, fleet.engine, there, say, step).go(one)

        try:
            done = [conduct(job)]
            back = _back(done[0])
            if back:
                fleet.store.begin(back)
                done.append(conduct(back))
        except KeyboardInterrupt:
            text = f"{job.kind} {job.name}: cut off; nodes end by themselves what they have begun"
            raise UserError(text, hint="imgbuild fleet resume") from None
    for one in done:
        _result(one, as_json=as_json)
    job = done[0]
    if not job.good and not as_json:
        print(f"all that Ansible said: {fleet.store.folder / 'runs'}")
    raise click.exceptions.Exit(0 if job.good else 1)


def _back(job: Job) -> Job | None:
    """Return the job that takes a rollout back, where it halted and that was asked for."""
    if job.state != HALTED or not job.limits.roll_back or job.kind != "rollout":
        return None
    back = start.rollback(job, base.who())
    return back if back.hosts else None


def _result(job: Job, *, as_json: bool) -> None:
    if as_json:
        base.emit(job.model_dump())
        return
    rows = table("node", "outcome", "version", "why")
    for name in _left(job):
        one = job.hosts[name]
        rows.add_row(name, one.outcome, one.version, one.text)
    if rows.row_count:
        show(rows)
    counts = ", ".join(f"{count} {what}" for what, count in sorted(job.counts().items()))
    print(f"{job.kind} {job.name}: {job.stands(busy=True)}: {counts}")


def _left(job: Job) -> Sequence[str]:
    fine = {*GOOD, WAITING}
    return [name for name, one in job.hosts.items() if one.outcome not in fine]


COMMANDS: Sequence[Any] = (rollout, update_model, resume, pause, abort)
