"""The command `imgnode`."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict

from imgnode import etc
from imgnode.identity import Identity, read_identity
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
    arguments = parser.parse_args(argv)
    arguments.run(arguments)


def _status(arguments: argparse.Namespace) -> None:
    identity = read_identity()
    if arguments.json:
        print(json.dumps(asdict(identity), indent=1))
        return
    print(f"image    {identity.image_id} {identity.version}")
    print(f"root     verity {identity.root_hash[:16]}…")
    print(f"boot     {_verdict(identity)}")
    if identity.var_degraded:
        print(f"var      VOLATILE: {identity.var_degraded}")


def _verdict(identity: Identity) -> str:
    """Say whether this version has been blessed (systemd-bless-boot.service(8))."""
    if identity.tries is None:
        return "good"
    blessed = run(["systemctl", "is-active", "--quiet", "systemd-bless-boot.service"], timeout_s=10)
    return "good since this boot" if blessed.rc == 0 else f"on trial {identity.tries}"


def _etc_save(_: argparse.Namespace) -> None:
    for name in etc.save():
        print(f"saved /etc/{name}")
