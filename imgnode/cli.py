"""The command `imgnode`."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict

from imgnode import etc, guard
from imgnode.identity import Identity, read_identity
from imgnode.nodeconfig import NodeConfig, SeedError, read_errors, read_node
from imgnode.process import run


def main(argv: list[str] | None = None) -> None:
    """Run one subcommand; argparse ends with exit code 2 on a wrong call."""
    parser = argparse.ArgumentParser(prog="imgnode", description="This inference node.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    status = commands.add_parser("status", help="which image runs, and on what state")
    status.add_argument("--json", action="store_true", help="for machines")
    status.set_defaults(run=_status)
    etc_commands = commands.add_parser("etc", help="what persists of /etc").add_subparsers(
        required=True, metavar="COMMAND"
    )
    save = etc_commands.add_parser("save", help="save the declared part to /var")
    save.set_defaults(run=_etc_save)
    seed_commands = commands.add_parser("seed", help="what makes this node itself").add_subparsers(
        required=True, metavar="COMMAND"
    )
    apply = seed_commands.add_parser("apply", help="judge the seed and hand it to cloud-init")
    apply.set_defaults(run=_seed_apply)
    model_commands = commands.add_parser("model", help="what this node serves").add_subparsers(
        required=True, metavar="COMMAND"
    )
    show = model_commands.add_parser("show", help="the config in force and where it comes from")
    show.add_argument("--json", action="store_true", help="for machines")
    show.set_defaults(run=_model_show)
    arguments = parser.parse_args(argv)
    arguments.run(arguments)


def _status(arguments: argparse.Namespace) -> None:
    identity = read_identity()
    errors = read_errors()
    if arguments.json:
        told = {**asdict(identity), "seed_errors": [asdict(error) for error in errors]}
        print(json.dumps(told, indent=1))
        return
    print(f"image    {identity.image_id} {identity.version}")
    print(f"root     verity {identity.root_hash[:16]}…")
    print(f"boot     {_verdict(identity)}")
    if identity.var_degraded:
        print(f"var      VOLATILE: {identity.var_degraded}")
    _print_seed(read_node(), errors)


def _print_seed(node: NodeConfig | None, errors: list[SeedError]) -> None:
    if node is None:
        return
    if not errors:
        print(f"seed     good ({node.device})")
        return
    for error in errors:
        print(f"seed     BAD: {error.text}")
    kept = f"; also from there: {', '.join(node.replaced)}" if node.replaced else ""
    print(f"config   from the {node.source}{kept}")


def _verdict(identity: Identity) -> str:
    """Say whether this version has been blessed (systemd-bless-boot.service(8))."""
    if identity.tries is None:
        return "good"
    blessed = run(["systemctl", "is-active", "--quiet", "systemd-bless-boot.service"], timeout_s=10)
    return "good since this boot" if blessed.rc == 0 else f"on trial {identity.tries}"


def _etc_save(_: argparse.Namespace) -> None:
    for name in etc.save():
        print(f"saved /etc/{name}")


def _seed_apply(_: argparse.Namespace) -> None:
    guard.apply()


def _model_show(arguments: argparse.Namespace) -> None:
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
