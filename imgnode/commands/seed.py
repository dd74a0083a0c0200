"""`imgnode seed`: what makes this node itself."""

from __future__ import annotations

import argparse

from imgnode import guard
from imgnode.commands.group import Commands, group


def add(commands: Commands) -> None:
    """Add the subcommands."""
    seed = group(commands, "seed", "what makes this node itself")
    apply = seed.add_parser("apply", help="judge the seed and hand it to cloud-init")
    apply.set_defaults(run=_apply)


def _apply(_: argparse.Namespace) -> None:
    guard.apply()
