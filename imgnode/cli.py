"""The command `imgnode`."""

from __future__ import annotations

import argparse

from imgnode.commands import (
    alert,
    backup,
    etc,
    exporter,
    gate,
    gpu,
    health,
    layers,
    maintenance,
    model,
    recover,
    seed,
    serve,
    status,
    support,
    update,
    var,
)


def parser() -> argparse.ArgumentParser:
    """Return the parser of all subcommands."""
    made = argparse.ArgumentParser(prog="imgnode", description="This inference node.")
    commands = made.add_subparsers(required=True, metavar="COMMAND")
    for one in (
        status,
        health,
        recover,
        alert,
        gate,
        seed,
        model,
        serve,
        layers,
        gpu,
        update,
        backup,
        maintenance,
        var,
        support,
        exporter,
        etc,
    ):
        one.add(commands)
    return made


def main(argv: list[str] | None = None) -> None:
    """Run one subcommand; argparse ends with exit code 2 on a wrong call."""
    arguments = parser().parse_args(argv)
    arguments.run(arguments)
