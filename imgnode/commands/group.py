"""How a group of subcommands is made."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    Commands = argparse._SubParsersAction[argparse.ArgumentParser]  # noqa: SLF001 - it has no public name
else:
    Commands = object


def group(commands: Commands, name: str, about: str) -> Commands:
    """Return the place for the subcommands of `name`; one of them must be given."""
    parser = commands.add_parser(name, help=about)
    return parser.add_subparsers(required=True, metavar="COMMAND")
