"""A real `imgbuild serve` inside a namespace, and what it is asked."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.provision.lan import Host

ROOT = Path(__file__).parents[2]
INSTALLER = bytes(range(256)) * 4096  # 1 MiB in place of a UKI: no server looks into it
_UP_S, _END_S = 60.0, 30.0


@dataclass
class Server:
    """A running server; `folder` holds plan, seeds, releases and state."""

    host: Host
    folder: Path
    address: str
    process: subprocess.Popen[str]

    @property
    def base(self) -> str:
        return f"http://{self.address}"

    @property
    def state(self) -> Path:
        return self.folder / "state"

    @property
    def sent(self) -> int:
        """The bytes of releases that nginx has sent, by its own log."""
        lines = (self.state / "run/access.log").read_text().splitlines()
        rows = [line.split() for line in lines]
        return sum(int(row[5]) for row in rows if row[3].startswith("/releases/"))

    def said(self) -> str:
        return (self.folder / "said.txt").read_text()

    def kill(self) -> None:
        """End it as a power cut would: nothing of it gets to know."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(_END_S)


def write(folder: Path, server: Mapping[str, Any], nodes: Mapping[str, Any]) -> None:
    """Write a plan with an installer and a release repository beside it."""
    (folder / "releases/imgbuild-cpu").mkdir(parents=True, exist_ok=True)
    (folder / "releases/imgbuild-cpu/part").write_bytes(INSTALLER)
    (folder / "installer.efi").write_bytes(INSTALLER)
    (folder / "plain.yaml").write_text("#cloud-config\nhostname: gpu-07\n")
    (folder / "secret.yaml").write_text(
        "#cloud-config\nhostname: gpu-08\n"
        "write_files:\n- path: /etc/hub\n  content: HF_TOKEN=correct-horse-battery\n"
    )
    values = {
        "server": {"releases": "releases", "installer": "installer.efi", **server},
        "defaults": {"profile": "cpu"},
        "nodes": nodes,
    }
    (folder / "plan.yaml").write_text(yaml.safe_dump(values, sort_keys=False))


@contextmanager
def running(host: Host, folder: Path, address: str) -> Iterator[Server]:
    """Run a server by the plan in `folder` until the end of the block."""
    argv = [sys.executable, "-m", "builder.cli.main", "serve", str(folder / "plan.yaml")]
    argv += ["--state", str(folder / "state"), "--plain"]
    with (folder / "said.txt").open("a") as stream:
        process = subprocess.Popen(
            host.argv(*argv), cwd=ROOT, stdout=stream, stderr=subprocess.STDOUT, text=True
        )
        server = Server(host, folder, address, process)
        try:
            _wait(server)
            yield server
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
                process.wait(_END_S)


def _wait(server: Server) -> None:
    ends = time.monotonic() + _UP_S
    while time.monotonic() < ends and server.process.poll() is None:
        told = server.host.run("curl", "-s", "-m", "5", f"{server.base}/api/nodes", ok=False)
        if told.startswith("{"):
            return
        time.sleep(0.2)
    logs = "\n".join(one.read_text() for one in (server.state / "run").glob("*.log"))
    pytest.fail(f"{server.said()}\n{logs}"[-4000:])


def curl(host: Host, address: str, *words: str) -> tuple[int, str]:
    """Return status and body of one request."""
    told = host.run("curl", "-s", "-m", "20", "-w", "\n%{http_code}", *words, address, ok=False)
    body, _, status = told.rpartition("\n")
    return int(status), body


def offers(host: Host, mac: str, **words: object) -> list[dict[str, Any]]:
    """Return the answers to one DHCP request, made on `host` in the name of `mac`."""
    more = [f"--{key.replace('_', '-')}={value}" for key, value in words.items()]
    argv = [sys.executable, "-m", "tests.provision.dhcp", mac, *more]
    done = subprocess.run(
        host.argv(*argv), cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    found: list[dict[str, Any]] = json.loads(done.stdout)
    return found
