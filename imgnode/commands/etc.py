"""`imgnode etc`: what persists of /etc."""

from __future__ import annotations

import argparse

from imgnode import etc
from imgnode.commands.group import Commands, group


def add(commands: Commands) -> None:
    """Add the subcommands."""
    save = group(commands, "etc", "what persists of /etc").add_parser(
        "save", help="save the declared part to /var"
    )
    save.set_defaults(run=_save)


def _save(_: argparse.Namespace) -> None:
    for name in etc.save():
        print(f"saved /etc/{name}")
