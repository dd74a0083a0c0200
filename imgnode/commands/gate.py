"""`imgnode gate`: whether this version does its work here."""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

from imgnode.commands.group import Commands, group
from imgnode.gate import report
from imgnode.gate.bless import bless
from imgnode.gate.run import exit_code, run

_ROOT = Path("/")


def add(commands: Commands) -> None:
    """Add the subcommands."""
    gate = group(commands, "gate", "whether this version does its work here")
    one = gate.add_parser("run", help="judge now, and act on it; exit 1 if the image is at fault")
    one.add_argument(
        "--boot", action="store_true", help="for the unit: give up a version on trial by a reboot"
    )
    one.set_defaults(run=_run)
    one = gate.add_parser("show", help="the verdict of this boot with its evidence; earlier ones")
    one.add_argument("--json", action="store_true", help="for machines")
    one.set_defaults(run=_show)
    one = gate.add_parser("bless", help="for the unit: call this version good")
    one.set_defaults(run=_bless)


def _run(arguments: argparse.Namespace) -> None:
    try:
        verdict = run(_ROOT, boot=arguments.boot)
    except PermissionError as error:
        raise SystemExit(f"imgnode: {error.filename}: not allowed (hint: sudo)") from error
    sys.exit(exit_code(verdict))


def _show(arguments: argparse.Namespace) -> None:
    told, history = report.read(_ROOT), report.read_history(_ROOT)
    if arguments.json:
        print(json.dumps({"now": told, "history": history}, indent=1))
        return
    for line in report.lines(told) or ["gate     has not begun yet"]:
        print(line)
    for one in (told or {}).get("evidence", []):
        print(f"  {one['check']:<8} {one['whose']}: {_with_hint(one)}")
    for one in reversed(history):
        print(_earlier(one))


def _bless(_: argparse.Namespace) -> None:
    try:
        bless(_ROOT)
    except OSError as error:
        where = error.filename or "the ESP"
        raise SystemExit(f"imgnode: {where}: {error.strerror} (hint: df /boot; dmesg)") from error


def _with_hint(one: dict[str, Any]) -> str:
    return f"{one['fact']} (hint: {one['hint']})" if one["hint"] else str(one["fact"])


def _earlier(one: dict[str, Any]) -> str:
    """Return the line of one verdict in the history."""
    when = time.strftime("%Y-%m-%d %H:%M", time.localtime(one["when"]))
    tries = one["tries"] or "good"
    slot = one["slot"] or "?"
    return f"{when}  {one['version']} in {slot}, {tries}: {one['class']}: {one['text']}"
