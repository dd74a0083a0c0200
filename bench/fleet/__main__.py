"""`make bench-fleet`: what many nodes cost the control machine; writes docs/benchmarks-fleet.md."""

from __future__ import annotations

import argparse
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

from bench.fleet.cases import Cases
from bench.fleet.page import goals, page
from bench.place import say
from builder.core.errors import UserError
from builder.core.files import write_atomic
from builder.core.process import CommandError, Runner

_ROOT = Path(__file__).parents[2]
_SIZES = (10, 200, 1000)
_ROLLED = (5, 20)


def main() -> int:
    """Run the bench; return 0 when every goal is met, 1 when one is missed."""
    parser = argparse.ArgumentParser(prog="python -m bench.fleet", description=__doc__)
    for what, sizes in (("sizes", _SIZES), ("rollouts", _ROLLED)):
        parser.add_argument(f"--{what}", type=int, nargs="*", default=sizes, metavar="NODES")
    words = parser.parse_args()
    try:
        with tempfile.TemporaryDirectory(prefix="bench-fleet-") as name:
            figures = Cases(_ROOT, Path(name), Runner()).measure(words.sizes, words.rollouts)
    except (UserError, CommandError) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("bench: interrupted; nothing is left behind", file=sys.stderr)
        return 2
    text = page(figures, _versions())
    if tuple(words.sizes) == _SIZES:
        write_atomic(_ROOT / "docs/benchmarks-fleet.md", text)
    say(text)
    return 0 if all(one.met for one in goals(figures)) else 1


def _versions() -> dict[str, str]:
    return {name: version(name) for name in ("ansible-core", "ansible-runner")}


if __name__ == "__main__":
    sys.exit(main())
