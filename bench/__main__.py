"""`make bench`: measure imgbuild against mkosi and write docs/benchmarks.md."""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Sequence
from types import FrameType

from bench import boots, builds
from bench.figures import Figure
from bench.imgbuild import Imgbuild
from bench.mkosi import Mkosi
from bench.place import Place, opened, say
from bench.report import missed, page
from builder.core.errors import UserError
from builder.core.files import write_atomic
from builder.vm.errors import VmError

_CASES = ("cold", "size", "unchanged", "overlay", "boot")
_GROUPS = {"build": ("cold", "unchanged", "overlay"), "memory": ("cold",)}
_RUNS = 3


def main() -> int:
    """Run the bench; return 0 when every measured goal is met, 1 when one is missed."""
    signal.signal(signal.SIGTERM, _interrupt)
    options = _options()
    try:
        with opened() as place:
            figures = _measure(place, options.only, options.runs)
            text = page(place, figures, options.runs)
            if set(options.only) == set(_CASES) and not options.quick:
                target = place.project.root / "docs/benchmarks.md"
                write_atomic(target, text)
                say(f"wrote {target}")
    except (UserError, VmError) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("bench: interrupted; nothing is left behind", file=sys.stderr)
        return 2
    say(text)
    if told := missed(figures):
        say(told)
        return 1
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--runs", type=int, metavar="N", help=f"runs of a case (default {_RUNS})")
    choices = ", ".join([*_CASES, *_GROUPS])
    parser.add_argument("--only", metavar="CASE,…", type=_cases, help=f"some of: {choices}")
    parser.add_argument("--quick", action="store_true", help="one run, and no page written")
    options = parser.parse_args()
    options.only = options.only or _CASES
    options.runs = options.runs or (1 if options.quick else _RUNS)
    if options.runs < 1:
        parser.error("--runs: at least 1")
    return options


def _cases(text: str) -> tuple[str, ...]:
    found: list[str] = []
    for word in text.split(","):
        if word not in (*_CASES, *_GROUPS):
            raise argparse.ArgumentTypeError(f"no case {word!r}")
        found += _GROUPS.get(word, (word,))
    return tuple(case for case in _CASES if case in found)


def _measure(place: Place, cases: Sequence[str], runs: int) -> list[Figure]:
    ours, theirs = Imgbuild(place), Mkosi(place)
    theirs.prepare()
    ours.prepare()
    figures: list[Figure] = []
    if "cold" in cases:
        figures += builds.cold(ours, theirs, runs)
    if "size" in cases:
        figures += builds.sizes(ours, theirs)
    if "unchanged" in cases:
        figures += builds.unchanged(ours, theirs)
    if "overlay" in cases:
        figures += builds.overlay(ours, theirs, runs)
    if "boot" in cases:
        builds.ensure_images(ours, theirs)
        figures += boots.boots(place, ours, theirs, runs)
    return figures


def _interrupt(_signal: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
