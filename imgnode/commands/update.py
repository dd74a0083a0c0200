"""`imgnode update`: another version into the other slot, and the way back."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path

from imgnode.commands.group import Commands, group
from imgnode.update import report, run
from imgnode.update.channel import Wishes
from imgnode.update.facts import Facts, read_facts
from imgnode.update.refused import Refused
from imgnode.update.rollback import rollback
from imgnode.update.run import Order
from imgnode.update.settle import settle

_ROOT = Path("/")
_DRAIN_S = 300
_ERR = "<3>"  # sd-daemon(3)
Run = Callable[[Facts, argparse.Namespace], None]


def add(commands: Commands) -> None:
    """Add the subcommands."""
    update = group(commands, "update", "another version into the other slot, and the way back")
    for name, about, action in (
        ("check", "what the channel offers", _check),
        ("stage", "fetch and check it all; nothing else is changed", _stage),
        ("apply", "stage if need be, and write it into the other slot", _apply),
        ("run", "what the timer does: as far as the site lets it go by itself", _run),
    ):
        one = update.add_parser(name, help=about)
        one.add_argument("--channel", help="another channel than the site's")
        one.add_argument("--allow-older", action="store_true", help="take an older version, too")
        one.add_argument("--retry", action="store_true", help="take one that failed here, too")
        if name == "apply":
            _reboot_options(one)
        one.set_defaults(run=_careful(action))
    one = update.add_parser("status", help="slots, channel, what was staged, what failed")
    one.add_argument("--json", action="store_true", help="for machines")
    one.set_defaults(run=_careful(_status))
    one = update.add_parser("rollback", help="the other version again, from the next boot on")
    _reboot_options(one)
    one.set_defaults(run=_careful(_rollback))


def _reboot_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--reboot", action="store_true", help="drain the server, then reboot")
    parser.add_argument(
        "--drain-s", type=float, default=_DRAIN_S, help="seconds that requests may take to end"
    )


def _careful(action: Run) -> Callable[[argparse.Namespace], None]:
    """Run alone; tell what is refused, and end with 1 then."""

    def guarded(arguments: argparse.Namespace) -> None:
        try:
            facts = read_facts(_ROOT)
            if action is _status:
                action(facts, arguments)
                return
            with run.alone(_ROOT):
                action(facts, arguments)
        except Refused as fault:
            report.refused(fault, _ROOT)
            mark = _ERR if not sys.stderr.isatty() else ""
            print(f"{mark}update: {fault.kind}: {fault}", file=sys.stderr)
            raise SystemExit(1) from None
        except OSError as error:
            raise SystemExit(f"imgnode: {error.filename or 'disk'}: {error.strerror}") from error

    return guarded


def _order(arguments: argparse.Namespace) -> Order:
    return Order(arguments.channel, Wishes(arguments.allow_older, arguments.retry))


def _say(text: str) -> None:
    """Tell how far it is, at once: in the journal, too, which is no terminal."""
    print(text, flush=True)


def _check(facts: Facts, arguments: argparse.Namespace) -> None:
    channel = run.check(facts, _order(arguments), _ROOT)
    if channel.version == facts.version:
        print(f"{facts.version} runs, and is what channel {channel.channel} has")
    else:
        print(f"{channel.version} is available, {facts.version} runs")


def _stage(facts: Facts, arguments: argparse.Namespace) -> None:
    if run.bring(facts, _order(arguments), _say, _ROOT) is None:
        print(f"{facts.version} runs, and is what the channel has")


def _apply(facts: Facts, arguments: argparse.Namespace) -> None:
    if run.bring(facts, _order(arguments), _say, _ROOT) is None:
        print(f"{facts.version} runs, and is what the channel has")
        return
    run.install(facts, _say, _ROOT)
    if arguments.reboot:
        run.restart(arguments.drain_s, _say, _ROOT)


def _run(facts: Facts, arguments: argparse.Namespace) -> None:
    if facts.apply == "check":
        _check(facts, arguments)
    elif facts.apply == "stage":
        _stage(facts, arguments)
    elif run.bring(facts, _order(arguments), _say, _ROOT) is not None:
        run.install(facts, _say, _ROOT)
        if facts.apply == "reboot":
            run.restart(_DRAIN_S, _say, _ROOT)


def _status(facts: Facts, arguments: argparse.Namespace) -> None:
    settle(facts, _ROOT)
    told = report.status(facts, _ROOT)
    if arguments.json:
        print(json.dumps(told, indent=1))
        return
    for line in report.lines(told, facts):
        print(line)


def _rollback(facts: Facts, arguments: argparse.Namespace) -> None:
    settle(facts, _ROOT)
    version = rollback(facts, _ROOT)
    print(f"{version} boots next; {facts.version} is not taken again without --retry")
    if arguments.reboot:
        run.restart(arguments.drain_s, _say, _ROOT)
