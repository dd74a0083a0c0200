"""`imgnode support-bundle`: what somebody elsewhere needs to understand this node."""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from imgnode.commands.group import Commands
from imgnode.support.bundle import default_name, write

_ROOT = Path("/")
_FOLDER = Path("/var/tmp")  # noqa: S108 - a name with host and time, made with O_EXCL


def add(commands: Commands) -> None:
    """Add the subcommand."""
    about = "one archive for whoever helps: journal, state, versions; secrets removed"
    one = commands.add_parser("support-bundle", help=about)
    one.add_argument("--out", type=Path, metavar="FILE", help="such as /tmp/node.tar.gz")
    one.set_defaults(run=_bundle)


def _bundle(arguments: argparse.Namespace) -> None:
    out = arguments.out or _FOLDER / default_name(time.time())
    try:
        missing = write(out, _ROOT)
    except OSError as error:
        raise SystemExit(f"imgnode: {error.filename or out}: {error.strerror}") from error
    for one in missing:
        print(f"without {one.rstrip()}")
    print(f"{out}: {out.stat().st_size / 1e6:.1f} MB; look into it before you give it away")
