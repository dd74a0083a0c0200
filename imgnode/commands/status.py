"""`imgnode status`: which image runs, and on what state."""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import asdict

from imgnode import sealed
from imgnode.alert.desk import status_lines as alert_lines
from imgnode.backup import declared
from imgnode.backup import report as backup
from imgnode.commands.group import Commands
from imgnode.gate.report import lines as gate_lines
from imgnode.gate.report import read as read_gate
from imgnode.gpu import check as gpu
from imgnode.health import report as health
from imgnode.identity import Identity, read_identity
from imgnode.maintain import mode
from imgnode.nodeconfig import NodeConfig, SeedError, read_errors, read_node
from imgnode.process import run
from imgnode.recover.report import lines as recover_lines
from imgnode.recover.report import read as read_recovery
from imgnode.schema import report as schema
from imgnode.serve.report import lines as serve_lines
from imgnode.serve.report import read as read_serving


def add(commands: Commands) -> None:
    """Add the subcommand."""
    status = commands.add_parser("status", help="which image runs, and on what state")
    status.add_argument("--json", action="store_true", help="for machines")
    status.set_defaults(run=_status)


def _status(arguments: argparse.Namespace) -> None:
    identity = read_identity()
    errors = read_errors()
    maintenance = mode.read()
    if arguments.json:
        told = {
            **asdict(identity),
            "seed_errors": [asdict(error) for error in errors],
            "gate": read_gate(),
            "var_sealed": (found := sealed.read()) and asdict(found),
            "schema": schema.read(),
            "serve": read_serving(),
            "gpu": gpu.read(),
            "maintenance": maintenance and asdict(maintenance),
            "backup": backup.read() if declared.there() else None,
            "health": health.read(),
            "recover": read_recovery(),
        }
        print(json.dumps(told, indent=1))
        return
    print(f"image    {identity.image_id} {identity.version}")
    print(f"root     verity {identity.root_hash[:16]}…")
    print(f"boot     {_verdict(identity)}")
    for line in [*mode.lines(maintenance), *gate_lines(read_gate())]:
        print(line)
    if identity.var_degraded:
        print(f"var      VOLATILE: {identity.var_degraded}")
    for line in sealed.lines(sealed.read()):
        print(line)
    for line in schema.lines(schema.read()):
        print(line)
    _print_seed(read_node(), errors)
    watched = health.short(health.read(), time.time())
    for line in [*gpu.lines(gpu.read()), *serve_lines(read_serving()), *watched]:
        print(line)
    for line in backup.lines(backup.read()) if declared.there() else ():
        print(line)
    for line in [*recover_lines(read_recovery()), *alert_lines()]:
        print(line)


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
