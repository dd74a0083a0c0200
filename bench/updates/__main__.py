"""`make bench-update`: what an update costs a node; writes docs/benchmarks-update.md."""

from __future__ import annotations

import argparse
import shutil
import signal
import sys
from types import FrameType

from bench.place import Place, opened, say
from bench.updates.cases import CASES, Workshop
from bench.updates.page import goals, page
from bench.updates.ways import Row, compare
from builder.core.errors import UserError
from builder.core.files import write_atomic


def main() -> int:
    """Run the bench; return 0 when every measured goal is met, 1 when one is missed."""
    signal.signal(signal.SIGTERM, _interrupt)
    parser = argparse.ArgumentParser(prog="python -m bench.updates", description=__doc__)
    names = ", ".join(CASES)
    parser.add_argument("cases", nargs="*", metavar="CASE", help=f"some of: {names}; default: all")
    wanted = parser.parse_args().cases or list(CASES)
    if unknown := set(wanted) - set(CASES):
        parser.error(f"no case {', '.join(sorted(unknown))}; there are: {names}")
    try:
        with opened() as place:
            _need_casync()
            rows = [_row(place, name) for name in wanted]
            text = page(rows, _versions(place))
            if wanted == list(CASES):
                write_atomic(place.project.root / "docs/benchmarks-update.md", text)
    except UserError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("bench: interrupted; nothing is left behind", file=sys.stderr)
        return 2
    say(text)
    return 0 if all(goal.met for goal in goals(rows)) else 1


def _need_casync() -> None:
    if not shutil.which("casync"):
        raise UserError("without casync: not installed", hint="apt-get install casync")


def _row(place: Place, name: str) -> Row:
    workshop = Workshop(place, CASES[name], place.updates / name)
    try:
        return compare(place, workshop.pair(), workshop.folder / "node")
    finally:
        workshop.clear()


def _versions(place: Place) -> dict[str, str]:
    names = ["casync", "zstd"]
    show = ["dpkg-query", "--show", "--showformat=${Package} ${Version}\n", *names]
    told = place.runner.run(show).stdout
    return dict(line.split() for line in told.splitlines())


def _interrupt(_signal: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
