"""`make bench-fleet`: what a fleet costs the control machine; prints a table for docs/fleet.md."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

_ROOT = Path(__file__).parents[1]
_HUNDREDS = (10, 200, 1000)


@dataclass(frozen=True)
class Figure:
    """What one command took: seconds on the clock and of processors, peak memory in bytes."""

    what: str
    nodes: int
    wall_s: float
    cpu_s: float
    memory: int


def main() -> int:
    """Run the bench; return 1 when a plan of 200 nodes takes more than 5 seconds."""
    parser = argparse.ArgumentParser(prog="python -m bench.fleet", description=__doc__)
    parser.add_argument("--survey", type=int, nargs="*", default=[10, 50], metavar="NODES")
    surveyed: list[int] = parser.parse_args().survey
    figures = []
    with tempfile.TemporaryDirectory(prefix="bench-fleet-") as name:
        top = Path(name)
        figures += [_plan(top / f"plan-{count}", count) for count in _HUNDREDS]
        figures += [_survey(top / f"survey-{count}", count) for count in surveyed]
    print("| what | nodes | clock | processors | for each node | memory |")
    print("| --- | --- | --- | --- | --- | --- |")
    for one in figures:
        each = f"{1000 * one.cpu_s / one.nodes:.0f} ms"
        cells = [one.what, f"{one.nodes}", f"{one.wall_s:.1f} s", f"{one.cpu_s:.1f} s", each]
        print(f"| {' | '.join(cells)} | {one.memory / 1e6:.0f} MB |")
    (goal,) = (one for one in figures if one.what == "plan" and one.nodes == 200)  # noqa: PLR2004
    print(f"a plan of 200 nodes: {goal.wall_s:.1f} s, at most 5 s wanted")
    return int(goal.wall_s > 5)  # noqa: PLR2004 - the goal of the project


def _plan(top: Path, count: int) -> Figure:
    """Plan a rollout over nodes that have just been asked."""
    names = [f"n{number:04}" for number in range(count)]
    hosts = {
        name: {"ansible_host": f"10.0.{i // 250}.{i % 250}", "rack": f"r{i % 20}"}
        for i, name in enumerate(names)
    }
    variables = {"profile": "cpu", "channel": "stable", "inference": {"model": "org/one"}}
    said = {
        name: {"name": name, "answers": True, "version": "1", "serving": "org/one", "level": "ok"}
        for name in names
    }
    _put(top / "inventory.yml", {"all": {"hosts": hosts, "vars": variables}})
    _put(top / "state/status.json", {"when": time.time(), "nodes": said})
    return _measure("plan", count, top, ["plan", "2", "--json"])


def _survey(top: Path, count: int) -> Figure:
    """Ask simulated nodes, which run the real imgnode on this machine, too."""
    from tests.fleet.simulated import Fleet  # noqa: PLC0415 - only a checkout has it

    Fleet.make(top, count)
    return _measure("survey", count, top, ["status", "--json"])


def _measure(what: str, count: int, top: Path, words: list[str]) -> Figure:
    argv = [sys.executable, "-m", "builder.cli.main", "fleet", *words]
    argv += ["-i", str(top / "inventory.yml"), "--state", str(top / "state")]
    plugins = str(_ROOT / "tests/fleet/plugins/connection")
    env = {**os.environ, "ANSIBLE_CONNECTION_PLUGINS": plugins}
    began = time.monotonic()
    process = subprocess.Popen(argv, cwd=_ROOT, env=env, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    wall = time.monotonic() - began
    if status:
        raise SystemExit(f"{what} of {count} nodes: it ended with {status}")
    return Figure(what, count, wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024)


def _put(path: Path, value: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))


if __name__ == "__main__":
    sys.exit(main())
