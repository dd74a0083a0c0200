"""`imgbuild profiles`: what can be built."""

from __future__ import annotations

import json

import click
from rich.console import Console
from rich.table import Table

from builder.core.paths import Project
from builder.resolve import list_profiles


@click.command("profiles")
@click.option("--json", "as_json", is_flag=True, help="for machines")
def command(as_json: bool) -> None:
    """List the profiles, with what is wrong with those that cannot be built."""
    found = list_profiles(Project.find())
    if as_json:
        print(json.dumps([profile._asdict() for profile in found], indent=1))
        return
    table = Table(box=None, pad_edge=False)
    for heading in ("PROFILE", "EXTENDS", "DESCRIPTION"):
        table.add_column(heading)
    for profile in found:
        text = profile.error or profile.description or ""
        name = f"({profile.name})" if profile.abstract else profile.name
        table.add_row(name, profile.extends or "", text, style="red" if profile.error else "")
    Console(markup=False).print(table)
