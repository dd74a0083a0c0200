"""`imgbuild serve`: the provisioning server."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from pathlib import Path

import click
from rich.console import Console

from builder.cli import options
from builder.cli.provision import Files, load_plan, open_desk, place_of
from builder.cli.rollout import Rollout
from builder.cli.session import session
from builder.core.context import Context
from builder.core.errors import UserError
from builder.core.events import Note
from builder.core.gpg import need_programs
from builder.serve.desk import Desk
from builder.serve.inventory import Inventory
from builder.serve.place import Place
from builder.serve.probe import check_alone
from builder.serve.records import Store
from builder.serve.run import Watch, need_files, owned, prepare, serve


@click.command("serve")
@click.argument("plan", type=click.Path(path_type=Path))
@options.state
@options.site
@click.option("--plain", is_flag=True, help="lines instead of a table, also on a terminal")
@options.debug
def command(plan: Path, state: Path, site: str, plain: bool, debug: bool) -> None:
    """Install machines over the network: DHCP, boot files, orders, releases, progress.

    PLAN is a YAML file: the server's network, and which machine becomes what. It is read again
    when it changes. Ctrl-C ends the server; what it knows stays in the state folder.
    """
    with session(debug=debug, live=False) as context:
        files = Files(context, plan.absolute(), site)
        loaded = load_plan(files)
        store = Store(state.absolute())
        store.prepare()
        place = place_of(context.runner, loaded, store.folder, files.plan.parent)
        need_programs("ip", "nginx", *(["dnsmasq"] if place.network else []))
        need_files(place)
        with owned(store.folder):
            desk = open_desk(files, loaded, store, place)
            _check(context, desk)
            _serve(context, place, desk, files, live=not plain and sys.stdout.isatty())


def _check(context: Context, desk: Desk) -> None:
    """Tell which nodes cannot be installed as they are; the others can."""
    for name in desk.inventory.plan.nodes:
        try:
            desk.sources.seed(name)
        except UserError as error:
            context.emit(Note("warning", f"{name} will be held: {error}"))


def _serve(context: Context, place: Place, desk: Desk, files: Files, *, live: bool) -> None:
    children = prepare(place)
    if place.server.dhcp == "full" and place.server.interface:
        check_alone(place.server.interface)

    def say(text: str) -> None:
        context.emit(Note("info", text))

    say(f"{place.base}/ shows installations; changes need what {place.state}/admin-token holds")
    with Rollout(desk, say, Console() if live else None) as shown:
        watch = Watch(shown.tell, lambda: _tick(desk, files, shown))
        with contextlib.suppress(KeyboardInterrupt):
            asyncio.run(serve(context.runner, place, desk, watch, children))
    say(f"ended; what is known stays in {place.state}")


def _tick(desk: Desk, files: Files, shown: Rollout) -> None:
    """Take a changed plan, and show what has changed; a bad plan leaves the one before."""
    if files.changed():
        try:
            new = load_plan(files)
        except UserError as error:
            shown.tell(f"the plan has changed, and is NOT taken:\n{error}")
        else:
            moved = new.server != desk.inventory.plan.server
            desk.inventory = Inventory.of(new)
            later = "; what it says of the server counts from the next start" if moved else ""
            shown.tell(f"the plan has changed, and is taken{later}")
    shown.show()
