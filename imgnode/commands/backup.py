"""`imgnode backup`: what makes this node itself, kept and brought back."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

from imgnode.backup import declared, firstboot, restic, targets
from imgnode.backup.restore import Wish, restore, unpack_to
from imgnode.backup.take import alone, back_up
from imgnode.backup.trouble import MISSING, Trouble, WrongCall
from imgnode.backup.verify import verify
from imgnode.commands.group import Commands, group

_ROOT = Path("/")
_WRONG_CALL = 2
_ERR = "<3>"  # sd-daemon(3)
Action = Callable[[argparse.Namespace], list[Trouble]]


def add(commands: Commands) -> None:
    """Add the subcommands."""
    backup = group(commands, "backup", "what makes this node itself, kept and brought back")
    for name, about, action in (
        ("list", "the backups that there are", _list),
        ("now", "back up now", lambda _: back_up(print, _ROOT)),
        ("verify", "unpack the latest and compare it", lambda _: verify(print, _ROOT)),
        ("run", "what the timer does: back up what is due", _run),
        ("boot", "what a boot does: metrics; the first one of a /var, the seed's restore", _boot),
    ):
        backup.add_parser(name, help=about).set_defaults(run=_guarded(action))
    one = backup.add_parser("restore", help="bring a backup back; what it replaces is kept")
    one.add_argument("snapshot", nargs="?", default="latest", help="by its name in `list`")
    one.add_argument("--to", metavar="FOLDER", type=Path, help="only unpack it there")
    one.add_argument("--config", action="store_true", help="seed and model settings alone")
    one.add_argument(
        "--from",
        dest="target",
        choices=(targets.LOCAL, targets.REMOTE),
        help="default: the local ones, else the remote",
    )
    one.set_defaults(run=_guarded(_restore))


def _guarded(action: Action) -> Callable[[argparse.Namespace], None]:
    """Run alone; end with 2 for what was asked wrongly, 1 for what did not work."""

    def guarded(arguments: argparse.Namespace) -> None:
        try:
            found = _alone(action, arguments)
        except WrongCall as error:
            print(f"imgnode: {error}", file=sys.stderr)
            sys.exit(_WRONG_CALL)
        except PermissionError as error:
            print(f"imgnode: {error.filename}: not allowed (hint: sudo)", file=sys.stderr)
            sys.exit(_WRONG_CALL)
        except OSError as error:
            raise SystemExit(f"imgnode: {error.filename or 'disk'}: {error.strerror}") from error
        mark = "" if sys.stderr.isatty() else _ERR
        for trouble in found:
            print(f"{mark}backup: {trouble.kind}: {trouble}", file=sys.stderr)
        if found:
            sys.exit(1)

    return guarded


def _alone(action: Action, arguments: argparse.Namespace) -> list[Trouble]:
    if not declared.there(_ROOT):
        raise WrongCall("this image makes no backups", "give its profile the role backup")
    try:
        with alone(_ROOT):
            try:
                return action(arguments)
            finally:
                targets.put_away(_ROOT)
    except Trouble as trouble:
        return [trouble]


def _list(_: argparse.Namespace) -> list[Trouble]:
    config, found = targets.settings(_ROOT), []
    for target in targets.names(config):
        try:
            there = restic.snapshots(targets.open_target(target, config, _ROOT))
        except Trouble as trouble:
            found += [] if trouble.kind == MISSING else [trouble]
            there = []
        for one in there:
            print(f"{one.name}  {one.moment}  {target:<6}  {one.node}  {one.version}")
        if not there:
            print(f"{target}: no backups")
    return found


def _run(_: argparse.Namespace) -> list[Trouble]:
    return back_up(print, _ROOT, due_only=True)


def _boot(_: argparse.Namespace) -> list[Trouble]:
    firstboot.at_boot(print, _ROOT)
    return []


def _restore(arguments: argparse.Namespace) -> list[Trouble]:
    wish = Wish(arguments.snapshot, arguments.target, arguments.config)
    if arguments.to:
        unpack_to(wish, arguments.to, print, _ROOT)
        return []
    try:
        changed = restore(wish, print, _ROOT)
    except Trouble as trouble:
        if trouble.kind == MISSING and wish.name != "latest":
            raise WrongCall(f"no backup {wish.name}", "imgnode backup list") from trouble
        raise
    if "model" in changed:
        print("to serve by it: sudo systemctl restart vllm")
    if "etc" in changed:
        print("the machine id, where it differs, counts from the next boot on")
    return []
