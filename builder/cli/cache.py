"""`imgbuild cache`: what is kept between builds, and how to get the space back."""

from __future__ import annotations

import time

import click
from rich.console import Console
from rich.filesize import decimal
from rich.table import Table

from builder.cli.session import session


@click.group("cache")
def command() -> None:
    """Show or shrink the cache of stage results."""


@command.command("list")
def list_entries() -> None:
    """List stage results, the least recently used first."""
    with session() as context:
        entries = context.cache.entries()
    table = Table(box=None, pad_edge=False)
    for heading in ("STAGE", "KEY", "SIZE", "LAST USED"):
        table.add_column(heading)
    for entry in entries:
        used = time.strftime("%Y-%m-%d %H:%M", time.localtime(entry.used_at))
        table.add_row(entry.stage, entry.key[:12], decimal(entry.bytes), used)
    Console().print(table)
    print(f"{decimal(sum(entry.bytes for entry in entries))} in {len(entries)} results")


@command.command("prune")
@click.option(
    "--keep", default=1, show_default=True, type=click.IntRange(0), help="results of each stage"
)
def prune(keep: int) -> None:
    """Remove all but the last used results of each stage, and what killed builds left."""
    with session() as context:
        gone = context.cache.prune(keep=keep)
    print(f"removed {len(gone)} results, {decimal(sum(entry.bytes for entry in gone))}")
