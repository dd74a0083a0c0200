"""`imgnode health`: what is wrong with the node now, and the loop that looks."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from pathlib import Path

from imgnode.commands.group import Commands
from imgnode.health import report

_ROOT = Path("/")
_LOOP = (sys.executable, "-P", "-m", "imgnode.health")


def add(commands: Commands) -> None:
    """Add the command, and the subcommand of the unit."""
    health = commands.add_parser("health", help="what is wrong now; exit 1 where the node fails")
    health.add_argument("--json", action="store_true", help="for machines")
    health.set_defaults(run=_show)
    inner = health.add_subparsers(metavar="COMMAND")
    one = inner.add_parser("watch", help="for the unit: look again and again")
    one.set_defaults(run=_watch)


def _show(arguments: argparse.Namespace) -> None:
    told, now = report.read(_ROOT), time.time()
    if arguments.json:
        print(json.dumps(told, indent=1))
    else:
        for line in report.lines(told, now):
            print(line)
    sys.exit(int(report.is_failed(told, now)))


def _watch(_: argparse.Namespace) -> None:
    """Become the loop: in this process all other commands are loaded, which it would carry on."""
    os.execv(_LOOP[0], _LOOP)  # noqa: S606 - the same process goes on
