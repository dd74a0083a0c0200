"""`imgbuild orders`: what the provisioning server knows, and what to let it do; by its files."""

from __future__ import annotations

import ipaddress
import json
from pathlib import Path

import click

from builder.cli import options
from builder.cli.provision import Files, load_plan, open_desk
from builder.cli.session import session
from builder.cli.tables import show, table
from builder.core.errors import UserError
from builder.serve.desk import Desk
from builder.serve.place import Place
from builder.serve.records import Store
from builder.serve.view import as_json, rows

_plan = click.argument("plan", type=click.Path(path_type=Path))
_name = click.argument("name")


@click.group("orders")
def command() -> None:
    """See and steer installations over the network; the server need not run."""


@command.command("list")
@_plan
@options.state
@click.option("--json", "told", is_flag=True, help="for machines")
def list_(plan: Path, state: Path, told: bool) -> None:
    """List all machines: those of PLAN, and those that asked and are none of them."""
    found = rows(_desk(plan, state))
    if told:
        print(json.dumps({"nodes": as_json(found)}, indent=1))
        return
    made = table("machine", "state", "profile", "channel", "version", "known by", "why")
    for one in found:
        by = " ".join(word for word in (one.serial, one.uuid, *one.macs) if word)
        made.add_row(one.name, one.state, one.profile, one.channel, one.version, by, one.why)
    show(made)


@command.command("again")
@_plan
@_name
@options.state
def again(plan: Path, name: str, state: Path) -> None:
    """Let a node be installed once more, the next time that it starts from the network."""
    _desk(plan, state).again(name)
    print(f"{name} gets its order again")


@command.command("allow")
@_plan
@_name
@options.state
def allow(plan: Path, name: str, state: Path) -> None:
    """Let the machine that is held as a node have its seed, secrets and all, within an hour."""
    who = _desk(plan, state).allow(name)
    print(f"{name} may be installed within an hour: {', '.join(who.words)}")


@command.command("token")
@_plan
@_name
@options.state
def token(plan: Path, name: str, state: Path) -> None:
    """Print a new one-time token for a node whose seed has secrets; an older one is void."""
    print(_desk(plan, state).token(name))


def _desk(plan: Path, state: Path) -> Desk:
    """Return the desk of a state folder. Raises UserError where there is none."""
    store = Store(state.absolute())
    if not (store.folder / "nodes").is_dir():
        hint = "imgbuild serve makes it; --state names another"
        raise UserError(f"{state}: is no folder of a provisioning server", hint=hint)
    with session(live=False) as context:
        files = Files(context, plan.absolute(), "debian")
        loaded = load_plan(files)
        place = Place(
            server=loaded.server,
            state=store.folder,
            address=loaded.server.address or str(ipaddress.IPv4Address(0)),
            network=None,
            installer=Path(loaded.server.installer),
            releases=None,
            user=None,
        )
        return open_desk(files, loaded, store, place)
