"""`imgbuild fleet`: many nodes, by Ansible."""

from __future__ import annotations

import click

from builder.cli.fleet import change, look, render, work


@click.group("fleet")
def command() -> None:
    """See and change many nodes, by Ansible; fleet/ has the playbooks."""


for _one in (*look.COMMANDS, *change.COMMANDS, *work.COMMANDS, *render.COMMANDS):
    command.add_command(_one)
