"""`imgnode recover`: how this node mends itself, and the same by hand."""

from __future__ import annotations

import argparse
import json
import re
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from imgnode.alone import CHANGE, Lock
from imgnode.commands.group import Commands, group
from imgnode.gate import quarantine
from imgnode.recover import byhand, history, holds, report
from imgnode.recover.act import NotDone, act
from imgnode.recover.state import Store
from imgnode.recover.steps import STEPS, Target

_ROOT = Path("/")
_SHOWN = 15
_UNITS = {"m": 60.0, "h": 3600.0, "d": 86400.0}
Action = Callable[[argparse.Namespace], int | None]


def add(commands: Commands) -> None:
    """Add the subcommands."""
    recover = group(commands, "recover", "how this node mends itself, and the same by hand")
    one = recover.add_parser("status", help="what recovery does, holds back, and did")
    one.add_argument("--json", action="store_true", help="for machines")
    one.set_defaults(run=_guarded(_status))
    one = recover.add_parser("run", help="the ladder's first rung now: stop … start, and look")
    one.set_defaults(run=_guarded(_run))
    one = recover.add_parser("step", help="one step now, whatever limits say")
    one.add_argument("name", choices=[*STEPS], metavar="NAME", help=", ".join(STEPS))
    one.add_argument("--unit", help="for restart-unit")
    one.add_argument("--gpu", type=int, action="append", default=[], help="for reset-gpu")
    one.set_defaults(run=_guarded(_step))
    one = recover.add_parser("pause", help="do nothing by itself until resume")
    one.add_argument("--for", dest="seconds", type=_seconds, metavar="TIME", help="such as 2h")
    one.set_defaults(run=_guarded(_pause))
    recover.add_parser("resume", help="act again").set_defaults(run=_guarded(_resume))
    one = recover.add_parser("quarantine", help="take no work until release, over reboots")
    one.add_argument("why", help="the reason, for whoever comes next")
    one.set_defaults(run=_guarded(_quarantine))
    one = recover.add_parser("release", help="end every quarantine, and forget what was tried")
    one.set_defaults(run=_guarded(_release))
    one = recover.add_parser("act", help="for the unit: one step that needs more rights")
    one.add_argument("what", help="repair-config, or reset-gpu:0:1")
    one.set_defaults(run=_guarded(_act))


def _seconds(text: str) -> float:
    match = re.fullmatch(r"(\d+)([mhd])", text)
    if match is None:
        raise argparse.ArgumentTypeError(f"{text}: write a number and m, h or d, such as 2h")
    return int(match[1]) * _UNITS[match[2]]


def _guarded(action: Action) -> Callable[[argparse.Namespace], None]:
    """Say in one line what the disk, or another actor, refused."""

    def run(arguments: argparse.Namespace) -> None:
        try:
            sys.exit(action(arguments) or 0)
        except PermissionError as error:
            raise SystemExit(f"imgnode: {error.filename}: not allowed (hint: sudo)") from error
        except OSError as error:
            raise SystemExit(f"imgnode: {error.filename or 'disk'}: {error.strerror}") from error
        except (byhand.Busy, NotDone) as error:
            raise SystemExit(f"imgnode: {error}") from error

    return run


def _status(arguments: argparse.Namespace) -> None:
    now, told, past = time.time(), report.read(_ROOT), history.read(_ROOT)
    pause = holds.paused(now, _ROOT)
    if arguments.json:
        why = quarantine.read(_ROOT)
        print(json.dumps({"now": told, "paused": pause, "quarantine": why, "history": past}))
        return
    for line in report.lines(told, _ROOT) or ["recover  idle: nothing to do"]:
        print(line)
    if pause and (told or {}).get("state") != report.PAUSED:
        print(f"recover  {pause}")
    state = Store(_ROOT).load(now)
    for name, step in STEPS.items():
        hour = state.count(name, now, 3600.0)
        if hour:
            print(f"limit    {name}: {hour} of {step.per_hour} in the last hour")
    for one in past[-_SHOWN:]:
        print(_line(one))


def _line(event: dict[str, Any]) -> str:
    when = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(event.get("when", 0)))
    words = [str(event[name]) for name in ("step", "text") if event.get(name)]
    rc = f" (exit code {event['rc']})" if event.get("rc") else ""
    where = f"{event.get('check', '')}.{event.get('key', '')}"
    return f"{when}  {event.get('event', ''):<10} {where}: {': '.join(words)}{rc}"


def _run(_: argparse.Namespace) -> int:
    helped = byhand.run_ladder(_ROOT)
    print("it serves" if helped else "it does not serve: journalctl -b -u vllm")
    return int(not helped)


def _step(arguments: argparse.Namespace) -> int:
    missing = {"restart-unit": not arguments.unit, "reset-gpu": not arguments.gpu}
    if missing.get(arguments.name):
        option = "--unit" if arguments.name == "restart-unit" else "--gpu"
        print(f"imgnode: {arguments.name} needs {option}", file=sys.stderr)
        return 2
    target = Target(arguments.unit, tuple(arguments.gpu))
    rc = byhand.run_step(arguments.name, target, _ROOT)
    print(f"{arguments.name}: {'done' if rc == 0 else f'exit code {rc}'}")
    return int(rc != 0)


def _pause(arguments: argparse.Namespace) -> None:
    holds.pause(arguments.seconds, time.time(), _ROOT)
    print(f"recovery is {holds.paused(time.time(), _ROOT)}")


def _resume(_: argparse.Namespace) -> None:
    print("recovery acts again" if holds.resume(_ROOT) else "recovery was not paused")


def _quarantine(arguments: argparse.Namespace) -> None:
    why = " ".join(arguments.why.split()) or "no reason was given"
    quarantine.impose(why, _ROOT, lasting=True)
    byhand.note("quarantine", why, _ROOT)
    print(f"this node takes no work: {why}; imgnode recover release ends it")


def _release(_: argparse.Namespace) -> None:
    lock = Lock(CHANGE, _ROOT)
    busy = lock.take("a person")
    if busy is not None:
        raise byhand.Busy(busy)
    there = quarantine.lift(_ROOT, lasting=True)
    byhand.forget(_ROOT)
    lock.release()
    byhand.note("release", "by a person", _ROOT)
    print("this node takes work again" if there else "this node was not in quarantine")


def _act(arguments: argparse.Namespace) -> None:
    for line in act(arguments.what, _ROOT):
        print(line)
