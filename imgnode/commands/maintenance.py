"""`imgnode maintenance`: leaves the node to people for a while, and tidies it up."""

from __future__ import annotations

import argparse
import json
import re
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from imgnode.commands.group import Commands, group
from imgnode.maintain import mode
from imgnode.maintain.clean import clean
from imgnode.maintain.mode import Mode

_ROOT = Path("/")
_DRAIN_S = 300
_SECONDS = {"s": 1, "min": 60, "h": 3600, "d": 86400}
_LONGEST_S = 365 * 86400
_ERR = "<3>"  # sd-daemon(3)


def add(commands: Commands) -> None:
    """Add the subcommands."""
    own = group(commands, "maintenance", "leave the node to people for a while; tidy it up")
    one = own.add_parser("on", help="no new requests, no recovery, no alerts")
    one.add_argument("--for", dest="span", type=_span, help="ends by itself, such as 30min or 2h")
    one.add_argument("--reason", default="", help="for those who wonder")
    one.add_argument("--keep", action="store_true", help="also after a reboot")
    one.add_argument(
        "--drain-s", type=float, default=_DRAIN_S, help="seconds that requests may take to end"
    )
    one.set_defaults(run=_careful(_on))
    one = own.add_parser("off", help="takes requests again")
    one.set_defaults(run=_careful(_off))
    one = own.add_parser("status", help="whether it is on, until when and why; exit 1: off")
    one.add_argument("--json", action="store_true", help="for machines")
    one.set_defaults(run=_status)
    one = own.add_parser("resume", help="for the unit: goes on with it after a reboot")
    one.set_defaults(run=_careful(_resume))
    one = own.add_parser("clean", help="what the timer does: take away what nobody needs")
    one.add_argument("--dry-run", action="store_true", help="only tell")
    one.set_defaults(run=_careful(_clean))


def _span(text: str) -> int:
    """Return seconds; raises ArgumentTypeError for what is no span of time."""
    match = re.fullmatch(r"([1-9][0-9]{0,8})(s|min|h|d)", text)
    seconds = int(match[1]) * _SECONDS[match[2]] if match else 0
    if not 0 < seconds <= _LONGEST_S:
        raise argparse.ArgumentTypeError(f"{text}: not a span such as 90s, 30min, 2h or 1d")
    return seconds


def _careful(
    action: Callable[[argparse.Namespace], None],
) -> Callable[[argparse.Namespace], None]:
    def guarded(arguments: argparse.Namespace) -> None:
        try:
            action(arguments)
        except PermissionError as error:
            raise SystemExit(f"imgnode: {error.filename}: not allowed (hint: sudo)") from error
        except (OSError, ValueError) as error:
            raise SystemExit(f"imgnode: {error}") from error

    return guarded


def _on(arguments: argparse.Namespace) -> None:
    now = time.time()
    until = now + arguments.span if arguments.span else None
    reason = "".join(one if one.isprintable() else "?" for one in arguments.reason)
    chosen = Mode(now, until, reason, arguments.keep)
    if not mode.begin(chosen, arguments.drain_s, print, _ROOT):
        print(f"requests still run after {arguments.drain_s:g} s; new ones are refused")
    for line in mode.lines(chosen):
        print(line)


def _off(_: argparse.Namespace) -> None:
    print("off" if mode.end(_ROOT) else "it was not on")


def _status(arguments: argparse.Namespace) -> None:
    found = mode.read(_ROOT)
    if arguments.json:
        print(json.dumps(found and asdict(found), indent=1))
    else:
        print("\n".join(mode.lines(found)) or "off")
    sys.exit(0 if found else 1)


def _resume(_: argparse.Namespace) -> None:
    found = mode.bring_back(_ROOT)
    print("\n".join(mode.lines(found)) or "its time is over")


def _clean(arguments: argparse.Namespace) -> None:
    faults = clean(print, _ROOT, dry_run=arguments.dry_run)
    mark = "" if sys.stderr.isatty() else _ERR
    for one in faults:
        print(f"{mark}cleanup: {one}", file=sys.stderr)
    if faults:
        sys.exit(1)
