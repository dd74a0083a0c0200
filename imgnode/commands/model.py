"""`imgnode model`: what this node serves."""

from __future__ import annotations

import argparse
import json

from imgnode.commands.group import Commands, group
from imgnode.nodeconfig import read_node


def add(commands: Commands) -> None:
    """Add the subcommands."""
    model = group(commands, "model", "what this node serves")
    show = model.add_parser("show", help="the config in force and where it comes from")
    show.add_argument("--json", action="store_true", help="for machines")
    show.set_defaults(run=_show)


def _show(arguments: argparse.Namespace) -> None:
    node = read_node()
    if node is None:
        raise SystemExit("imgnode: no config yet: systemctl status imgnode-seed.service")
    if arguments.json:
        print(json.dumps({"source": node.source, "inference": node.inference}, indent=1))
        return
    print(f"# from: {node.source}")
    for key, value in node.inference.items():
        print(f"{key}: {json.dumps(value)}")
    if not node.inference.get("model"):
        print("# no model: there is nothing to serve")
