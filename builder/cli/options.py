"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path

import click

profile = click.option("--profile", "-p", required=True, metavar="NAME", help="what the node is")
site = click.option(
    "--site", "-s", default="debian", show_default=True, metavar="NAME", help="where it is"
)
debug = click.option("--debug", is_flag=True, help="print every command, ready to be pasted")
as_json = click.option("--json", "as_json", is_flag=True, help="one JSON object a line")
state = click.option(
    "--state",
    type=click.Path(path_type=Path),
    default=Path("/var/lib/imgbuild-serve"),
    show_default=True,
    help="folder with what the provisioning server knows",
)
