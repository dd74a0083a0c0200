"""A fleet of folders that play nodes (standin.py), and `imgbuild fleet` against it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.fleet import standin

ROOT = Path(__file__).parents[2]
OLD, NEW = "20260101-aa", "20260202-bb"
MODEL, OTHER, BROKEN = "org/one", "org/two", "org/broken"
_STANDIN = f"{{{{ ansible_playbook_python }}}} {ROOT}/tests/fleet/standin.py {{{{ sim_root }}}}"
_LIMIT_S = 1100  # less than pytest's own
VARIABLES: dict[str, Any] = {
    "ansible_connection": "simnode",
    "ansible_become": False,
    "ansible_pipelining": True,  # as over SSH
    "ansible_python_interpreter": "{{ ansible_playbook_python }}",
    "fleet_imgnode": f"{_STANDIN} imgnode",
    "fleet_logger": f"{_STANDIN} logger",
    "fleet_systemctl": f"{_STANDIN} systemctl",
    "fleet_reboot_command": f"/bin/sh -c '{_STANDIN} reboot'",
    "fleet_boot_id_command": f"{_STANDIN} boot-id",
    "fleet_poll_s": 1,
    "fleet_looks": 3,
    "fleet_ask_s": 600,  # a busy machine is no node that hangs
    "fleet_boot_s": 600,
    "profile": "cpu",
    "channel": "stable",
    "inference": {"model": MODEL},
}


@dataclass(frozen=True)
class Fleet:
    """Nodes below `top`, by name."""

    top: Path

    @classmethod
    def make(cls, top: Path, count: int, **sim: Any) -> Fleet:  # noqa: ANN401 - of sim.json
        """Make nodes that run OLD, and are offered NEW."""
        fleet = cls(top)
        hosts = {}
        for number in range(count):
            name = f"n{number:03}"
            wanted = {"offer": NEW, "known": [MODEL, OTHER, BROKEN], "models": [MODEL, OTHER]}
            standin.make(top / name, OLD, {"model": MODEL}, **{**wanted, **sim})
            hosts[name] = {"sim_root": str(top / name), "rack": f"r{number % 4}"}
        inventory = {"all": {"hosts": hosts, "vars": VARIABLES}}
        (top / "inventory.yml").write_text(json.dumps(inventory))
        return fleet

    def change(self, name: str, **sim: Any) -> None:  # noqa: ANN401
        """Change what a node is played to be."""
        path = self.top / name / "sim.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **sim}))

    def image(self, name: str, version: str) -> None:
        """Have a node run another version from the beginning."""
        standin.make(self.top / name, version, {"model": MODEL}, offer=NEW)

    def versions(self) -> dict[str, str]:
        """Return what every node runs."""
        paths = self.top.glob("n*/usr/lib/imgnode/image.json")
        return {path.parts[-5]: json.loads(path.read_text())["version"] for path in sorted(paths)}

    def serves(self, name: str) -> str:
        """Return the model that a node serves."""
        told = json.loads((self.top / name / "run/imgnode/serve.json").read_text())
        return f"{told['state']} {told['in_force']['settings']['model']}"

    def journal(self, name: str) -> list[str]:
        """Return what was noted on a node."""
        path = self.top / name / "journal"
        return path.read_text().splitlines() if path.exists() else []

    @property
    def job(self) -> dict[str, Any]:
        """The job as it is on disk; empty where there is none."""
        try:
            found: dict[str, Any] = json.loads((self.top / "state/job.json").read_text())
        except FileNotFoundError:
            return {}
        return found

    def outcomes(self) -> dict[str, str]:
        """Return what came of each node."""
        return {name: one["outcome"] for name, one in self.job.get("hosts", {}).items()}

    def start(self, *words: str) -> subprocess.Popen[str]:
        """Start `imgbuild fleet WORDS…` in a process group of its own."""
        options = ["-i", str(self.top / "inventory.yml"), "--state", str(self.top / "state")]
        argv = [sys.executable, "-m", "builder.cli.main", "fleet", *words, *options]
        pipe = subprocess.PIPE
        return subprocess.Popen(
            argv, cwd=ROOT, env=_environment(), stdout=pipe, stderr=pipe, text=True
        )

    def call(self, *words: str, limit_s: float = _LIMIT_S) -> tuple[int, str]:
        """Run `imgbuild fleet WORDS…`; return its exit code, and all that it said."""
        process = self.start(*words)
        try:
            out, err = process.communicate(timeout=limit_s)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
        return process.returncode, out + err

    def playbook(self, name: str, **variables: Any) -> tuple[int, int, str]:  # noqa: ANN401
        """Run a playbook as people do; return exit code, changes, and all that it said."""
        program = str(Path(sys.executable).parent / "ansible-playbook")
        argv = [program, "-i", str(self.top / "inventory.yml")]
        argv += [f"playbooks/{name}.yml", "-e", json.dumps(variables)]
        home = {"ANSIBLE_HOME": str(self.top / "ansible")}
        done = subprocess.run(
            argv,
            cwd=ROOT / "fleet",
            env={**_environment(), **home},
            capture_output=True,
            text=True,
            timeout=_LIMIT_S,
            check=False,
        )
        changes = sum(int(count) for count in re.findall(r"changed=(\d+)", done.stdout))
        return done.returncode, changes, done.stdout + done.stderr

    def wait(self, ready: Callable[[], bool]) -> None:
        """Wait until something is so."""
        end = time.monotonic() + _LIMIT_S
        while not ready():
            assert time.monotonic() < end, self.job
            time.sleep(0.2)


def _environment() -> dict[str, str]:
    plugins = {"ANSIBLE_CONNECTION_PLUGINS": str(ROOT / "tests/fleet/plugins/connection")}
    return {**os.environ, **plugins, "IMGBUILD_PROJECT": str(ROOT)}
