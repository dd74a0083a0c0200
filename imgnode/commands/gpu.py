"""`imgnode gpu`: the GPUs of this node."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from imgnode.commands.group import Commands, group
from imgnode.gpu import setup
from imgnode.gpu.check import Report, look
from imgnode.gpu.inventory import Device, Inventory, State, take
from imgnode.problems import Problem

_ROOT = Path("/")
_ERR, _WARNING = "<3>", "<4>"  # sd-daemon(3)
_GIB = 1 << 30


def add(commands: Commands) -> None:
    """Add the subcommands."""
    gpu = group(commands, "gpu", "the GPUs of this node")
    one = gpu.add_parser("show", help="what the driver says of each GPU")
    one.add_argument("--json", action="store_true", help="for machines")
    one.set_defaults(run=_show)
    one = gpu.add_parser("check", help="compare with the profile; exit 1: unfit")
    one.set_defaults(run=_careful(_check))
    one = gpu.add_parser("apply", help="device files, persistence, power limit, MIG")
    one.set_defaults(run=_careful(_apply))


def _careful(run: Callable[[], bool]) -> Callable[[argparse.Namespace], None]:
    """End with 1 where `run` says so; say in one line what the disk refused."""

    def guarded(_: argparse.Namespace) -> None:
        try:
            good = run()
        except OSError as error:
            raise SystemExit(f"imgnode: {error.filename}: {error.strerror}") from error
        except ValueError as error:
            raise SystemExit(f"imgnode: {error}") from error
        if not good:
            sys.exit(1)

    return guarded


def _show(arguments: argparse.Namespace) -> None:
    found = take(_ROOT)
    if arguments.json:
        print(json.dumps(found.as_dict(), indent=1))
        return
    for line in table(found):
        print(line)


def _check() -> bool:
    report = look(_ROOT)
    _tell(report)
    return not report.faults


def _apply() -> bool:
    outcome = setup.apply(_ROOT)
    for text in outcome.done:
        print(f"gpu: {text}")
    for text in outcome.failed:
        print(f"{_prefix(_ERR)}gpu: {text}", file=sys.stderr)
    _tell(outcome.report)
    return not outcome.failed


def _tell(report: Report) -> None:
    if report.profile is None:
        print("this image is for nodes without GPUs")
        return
    _print(report.faults, _ERR)
    _print(report.warnings, _WARNING)
    state = "unfit" if report.faults else "fit"
    found = len(report.inventory.usable) if report.inventory else 0
    print(f"{state}: {found} GPUs answer, {len(report.warnings)} warnings")


def _print(problems: Sequence[Problem], priority: str) -> None:
    for one in problems:
        print(f"{_prefix(priority)}{one}", file=sys.stderr)


def _prefix(priority: str) -> str:
    return priority if os.environ.get("JOURNAL_STREAM") else ""


def table(found: Inventory) -> list[str]:
    """Return the lines that people read."""
    lines = [f"# driver {found.driver or '-'}, CUDA up to {found.cuda or '-'}"]
    if found.state is not State.OK:
        lines.append(f"# {found.state}: {found.detail}" if found.detail else f"# {found.state}")
    if len(found.pci) != len(found.devices):
        lines.append(f"# on the PCI bus: {' '.join(found.pci) or 'no GPU'}")
    rows: list[tuple[str, ...]]
    rows = [("GPU", "NAME", "PCI", "MEMORY", "NVLINK", "PCIE", "TEMP", "POWER", "ECC", "MIG")]
    rows += [_row(one) for one in found.devices]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        cells = (f"{text:<{width}}" for text, width in zip(row, widths, strict=True))
        lines += ["  ".join(cells).rstrip()]
    return lines


def _row(one: Device) -> tuple[str, ...]:
    name = f"LOST: {one.lost}" if one.lost else one.name or "-"
    memory = f"{one.memory / _GIB:.1f} GiB" if one.memory else "-"
    links = f"{one.links_active}/{len(one.links)}" if one.links else "-"
    pcie = f"{one.pcie_gen}x{one.pcie_width}" if one.pcie_gen and one.pcie_width else "-"
    heat = "-" if one.temperature is None else f"{one.temperature} °C"
    power = f"{_whole(one.power)}/{_whole(one.power_limit)} W"
    split = ",".join(device.profile or "?" for device in one.mig_devices)
    address = one.address or "-"
    mig = split or _switch(one.mig)
    return (str(one.index), name, address, memory, links, pcie, heat, power, _switch(one.ecc), mig)


def _switch(state: bool | None) -> str:
    return {None: "-", True: "on", False: "off"}[state]


def _whole(watts: float | None) -> str:
    return "-" if watts is None else f"{watts:.0f}"
