"""`imgnode var`: the encrypted /var, its recovery key and its TPM."""

from __future__ import annotations

import argparse
import getpass
import sys
from collections.abc import Callable
from pathlib import Path

from imgnode import sealed
from imgnode.commands.group import Commands, group

_ROOT = Path("/")


def add(commands: Commands) -> None:
    """Add the subcommands."""
    var = group(commands, "var", "the encrypted /var: its recovery key, its TPM")
    one = var.add_parser("recovery-key", help="print it, and note that somebody has it")
    one.add_argument("--new", action="store_true", help="make another first; the old one is void")
    one.set_defaults(run=_guarded(_recovery_key))
    one = var.add_parser("seal", help="let the TPM open it for this version and firmware again")
    one.add_argument(
        "--also", metavar="FILE", type=Path, help="besides, for images that this public key knows"
    )
    one.set_defaults(run=_guarded(_seal))
    one = var.add_parser("keep", help="for the unit: give it a recovery key")
    one.set_defaults(run=_guarded(_keep))


def _guarded(run: Callable[[argparse.Namespace], None]) -> Callable[[argparse.Namespace], None]:
    """End with 1 where it does not work, in one line."""

    def guarded(arguments: argparse.Namespace) -> None:
        try:
            run(arguments)
        except PermissionError as error:
            raise SystemExit(f"imgnode: {error.filename}: not allowed (hint: sudo)") from error
        except OSError as error:
            raise SystemExit(f"imgnode: {error.filename}: {error.strerror}") from error
        except sealed.SealError as error:
            raise SystemExit(f"imgnode: {error}") from error

    return guarded


def _recovery_key(arguments: argparse.Namespace) -> None:
    if arguments.new:
        sealed.renew(_ROOT)
    print(sealed.recovery_key(_ROOT), flush=True)
    sealed.note_fetched(_ROOT)


def _seal(arguments: argparse.Namespace) -> None:
    now = sealed.read(_ROOT)
    key = sealed.recovery_key(_ROOT) if now and now.opened else _ask()
    device = sealed.seal(key, arguments.also, _ROOT)
    rest = "" if now and now.opened else "; /var comes back with the next boot: sudo reboot"
    print(f"{device}: sealed to this machine's TPM{rest}")


def _ask() -> str:
    """Return the recovery key from the terminal, unseen, or from a pipe."""
    if sys.stdin.isatty():
        return getpass.getpass("recovery key: ").strip()
    return sys.stdin.readline().strip()


def _keep(_: argparse.Namespace) -> None:
    if sealed.keep(_ROOT):
        print("/var has a recovery key now: sudo imgnode var recovery-key")
