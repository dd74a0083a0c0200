"""`imgnode exporter`: the page that Prometheus asks for."""

from __future__ import annotations

from imgnode.commands.group import Commands
from imgnode.exporter import daemon


def add(commands: Commands) -> None:
    """Add the command."""
    one = commands.add_parser("exporter", help="metrics of GPUs, vLLM and node for Prometheus")
    daemon.add_options(one)
    one.set_defaults(run=daemon.serve)
