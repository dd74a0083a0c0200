"""`make bench`: measure imgbuild against mkosi and write docs/benchmarks.md."""

from __future__ import annotations

import argparse
import fcntl
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType

from bench import boots, builds
from bench.figures import Figure
from bench.imgbuild import Imgbuild
from bench.mkosi import Mkosi
from bench.place import PROFILE, SITE, Place, say
from bench.report import missed, page
from builder.core.errors import UserError
from builder.core.files import remove_tree, write_atomic
from builder.core.paths import Project
from builder.core.process import Runner
from builder.resolve import resolve
from builder.vm.errors import VmError

_CASES = ("cold", "unchanged", "overlay", "boot")
_GROUPS = {"build": ("cold", "unchanged", "overlay"), "memory": ("cold",)}
_RUNS = 3


def main() -> int:
    """Run the bench; return 0 when every measured goal is met, 1 when one is missed."""
    signal.signal(signal.SIGTERM, _interrupt)
    options = _options()
    try:
        with _place() as place:
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


@contextmanager
def _place() -> Iterator[Place]:
    """Give the bench's place; work folders and running programs go with it."""
    if os.geteuid() != 0:
        raise UserError("the bench builds images", hint="run as root")
    project = Project.find()
    runner = Runner()
    place = Place(project, resolve(project, PROFILE, SITE), runner, project.root / ".cache/bench")
    place.folder.mkdir(parents=True, exist_ok=True)
    with (place.folder / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(f"{place.folder}: another bench runs") from None
        try:
            yield place
        finally:
            runner.close()
            for folder in place.passing:
                remove_tree(folder)


def _measure(place: Place, cases: Sequence[str], runs: int) -> list[Figure]:
    ours, theirs = Imgbuild(place), Mkosi(place)
    theirs.prepare()
    ours.prepare()
    figures: list[Figure] = []
    if "cold" in cases:
        figures += builds.cold(ours, theirs, runs)
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
