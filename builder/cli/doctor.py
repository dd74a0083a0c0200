"""`imgbuild doctor`: whether this host can build and boot images."""

from __future__ import annotations

import contextlib
import json
from dataclasses import asdict

import click
from rich.console import Console
from rich.table import Table

from builder.cli.session import session
from builder.core.context import Context
from builder.core.errors import UserError
from builder.core.mounts import enter_private_mounts
from builder.doctor.checks import Finding, checks
from builder.vm.kvm import probe_kvm

_STYLES = {"ok": "green", "warning": "yellow", "missing": "bold red"}


@click.command("doctor")
@click.option("--json", "as_json", is_flag=True, help="for machines")
def command(as_json: bool) -> None:
    """Check tools, versions, space and KVM, and say how to mend each (exit 2 if need be)."""
    with session() as context:
        findings = [*_host(context), _kvm(context)]
    if as_json:
        print(json.dumps([asdict(finding) for finding in findings], indent=1))
    else:
        Console(soft_wrap=True).print(_table(findings))
    if any(finding.state == "missing" for finding in findings):
        raise click.exceptions.Exit(2)


def _host(context: Context) -> list[Finding]:
    with contextlib.suppress(UserError):  # told by the checks of root and mounts
        enter_private_mounts(context.runner)
    return [check(context) for check in checks()]


def _kvm(context: Context) -> Finding:
    """KVM is tried by booting something tiny: /dev/kvm may exist and still not work."""
    try:
        with context.cache.workspace("kvm") as scratch:
            result = probe_kvm(context.runner, scratch)
    except UserError as error:
        return Finding("kvm", "warning", error.what, error.hint or "")
    if result.usable:
        return Finding("kvm", "ok", "works")
    hint = "virtual machines are emulated, some ten times slower; nothing to be done in a VM"
    return Finding("kvm", "warning", result.why, hint)


def _table(findings: list[Finding]) -> Table:
    table = Table(box=None, pad_edge=False)
    for heading in ("CHECK", "STATE", "FOUND", "WHAT TO DO"):
        table.add_column(heading)
    for finding in findings:
        style = _STYLES[finding.state]
        table.add_row(finding.name, f"[{style}]{finding.state}[/]", finding.found, finding.hint)
    return table
