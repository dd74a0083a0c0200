"""The commands that are measured, and the nodes that they are measured with."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.place import say
from bench.stopwatch import measure
from builder.core.process import Runner
from tests.fleet.simulated import NEW, VARIABLES, Fleet

PLAN, FIRST_PLAN, STATUS, ROLLOUT = "plan", "plan, nodes not asked before", "status", "rollout"
_PLANS = 5  # it is over too soon to be measured once
_WAVES = ("--soak", "0", "--waves", "25%,100%")


@dataclass(frozen=True)
class Figure:
    """What one command took: seconds of the clock and of processors, peak memory in bytes."""

    what: str
    nodes: int
    wall_s: float
    cpu_s: float
    memory: int


@dataclass(frozen=True)
class Cases:
    """Measures in folders below `top`."""

    root: Path
    top: Path
    runner: Runner

    def measure(self, sizes: Sequence[int], rollouts: Sequence[int]) -> list[Figure]:
        """Return the figures for fleets of each size. Raises CommandError."""
        answer = self._answer()
        figures = []
        for count in sizes:
            where = self._recorded(count, answer)
            figures.append(self._run(FIRST_PLAN, count, where, ("plan", NEW)))
            plans = [self._run(PLAN, count, where, ("plan", NEW)) for _ in range(_PLANS)]
            figures.append(sorted(plans, key=lambda one: one.wall_s)[_PLANS // 2])
            figures.append(self._run(STATUS, count, where, ("status",)))
        for count in rollouts:
            where = self.top / f"rollout-{count}"
            Fleet.make(where, count)
            figures.append(self._run(ROLLOUT, count, where, ("rollout", NEW, *_WAVES)))
        return sorted(figures, key=lambda one: (PLAN, FIRST_PLAN, STATUS, ROLLOUT).index(one.what))

    def _answer(self) -> Path:
        """Record what Ansible's module brings back of a node that is asked how it is."""
        one = self.top / "asked"
        Fleet.make(one, 1)
        standin = self.root / "tests/fleet/standin.py"
        argv = [sys.executable, str(standin), str(one / "n000"), "imgnode", "status", "--json"]
        said = self.runner.run(argv).stdout
        told = {"changed": False, "ansible_facts": {"fleet_status": json.loads(said)}}
        path = self.top / "answer.json"
        path.write_text(json.dumps(told))
        return path

    def _recorded(self, count: int, answer: Path) -> Path:
        """Write an inventory of nodes that answer by the recording."""
        where = self.top / f"recorded-{count}"
        where.mkdir()
        hosts = {
            f"n{number:04}": {"rack": f"r{number % 20}", "sim_root": str(self.top / "asked/n000")}
            for number in range(count)
        }
        variables: dict[str, Any] = {**VARIABLES, "sim_answer": str(answer)}
        inventory = {"all": {"hosts": hosts, "vars": variables}}
        (where / "inventory.yml").write_text(json.dumps(inventory))
        return where

    def _run(self, what: str, count: int, where: Path, words: Sequence[str]) -> Figure:
        say(f"{what}, {count} nodes")
        argv = [sys.executable, "-m", "builder.cli.main", "fleet", *words, "--json"]
        argv += ["-i", str(where / "inventory.yml"), "--state", str(where / "state")]
        env = {
            "PATH": os.environ["PATH"],
            "HOME": os.environ["HOME"],
            "ANSIBLE_CONNECTION_PLUGINS": str(self.root / "tests/fleet/plugins/connection"),
        }
        done = measure(self.runner, argv, env=env, cwd=self.root)
        return Figure(what, count, done.seconds, done.cpu_seconds, done.memory.total)
