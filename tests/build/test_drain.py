"""Before a reboot: what runs ends whole, nobody new is let in. Two network namespaces, real nft."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.build.standin import STAND_IN

pytestmark = [pytest.mark.build, pytest.mark.timeout(300)]
ROOT = Path(__file__).parents[2]
CURL_REFUSED = 7  # curl(1), exit codes
HERE, THERE = "192.0.2.1", "192.0.2.2"
HOLD = """\
import urllib.request
body = b'{"prompt": "hold", "model": "x", "max_tokens": 1}'
with urllib.request.urlopen("http://%s:8000/v1/completions", body, timeout=200) as answer:
    print(answer.read().decode())
"""
DRAIN = """\
from imgnode.update.drain import drain
print("drained", drain(8000, 200, lambda text: print(text, flush=True)), flush=True)
"""


@dataclass
class Room:
    """A network namespace."""

    name: str
    started: list[subprocess.Popen[str]] = field(default_factory=list)

    def start(self, script: str) -> subprocess.Popen[str]:
        argv = ["ip", "netns", "exec", self.name, sys.executable, "-c", script]
        out = subprocess.PIPE
        one = subprocess.Popen(argv, cwd=ROOT, stdout=out, stderr=subprocess.STDOUT, text=True)
        self.started.append(one)
        return one

    def curl(self, url: str) -> subprocess.CompletedProcess[str]:
        argv = ["ip", "netns", "exec", self.name, "curl", "-sS", "--max-time", "20", url]
        return subprocess.run(argv, capture_output=True, text=True, check=False)


def ip(words: str) -> None:
    subprocess.run(["ip", *words.split()], check=True)


@pytest.fixture
def rooms() -> Iterator[tuple[Room, Room]]:
    """Give the node's room and a client's, joined by a cable."""
    node, client = (Room(f"imgbuild-{who}-{os.getpid()}") for who in ("node", "client"))
    try:
        for room in (node, client):
            ip(f"netns add {room.name}")
            ip(f"-n {room.name} link set lo up")
        ip(f"-n {node.name} link add up0 type veth peer name up0 netns {client.name}")
        for room, address in ((node, HERE), (client, THERE)):
            ip(f"-n {room.name} address add {address}/24 dev up0")
            ip(f"-n {room.name} link set up0 up")
        yield node, client
    finally:
        for room in (node, client):
            for one in room.started:
                one.kill()
                one.communicate()
            subprocess.run(["ip", "netns", "delete", room.name], check=False)


def wait_for(room: Room, url: str, text: str) -> None:
    deadline = time.monotonic() + 100
    while text not in room.curl(url).stdout:
        assert time.monotonic() < deadline, f"{url}: no {text!r}"
        time.sleep(0.2)


def test_what_runs_ends_and_nobody_new_is_let_in(rooms: tuple[Room, Room]) -> None:
    node, client = rooms
    metrics, inside = f"http://{HERE}:8000/metrics", "http://127.0.0.1:8000"
    node.start(STAND_IN)
    wait_for(client, metrics, "running")
    held = client.start(HOLD % HERE)
    wait_for(client, metrics, '"0"} 1')
    drain = node.start(DRAIN)
    assert drain.stdout
    assert drain.stdout.readline() == "draining: 1 requests run\n"
    assert client.curl(metrics).returncode == CURL_REFUSED  # at once, not after a silence
    assert held.poll() is None
    assert node.curl(f"{inside}/finish").returncode == 0  # the node's own are let in
    assert '"text": "whole"' in held.communicate(timeout=100)[0]
    assert drain.stdout.readline() == "drained True\n"
    assert client.curl(metrics).returncode == CURL_REFUSED
    node.start("from imgnode.update.drain import resume; resume()").communicate(timeout=100)
    assert client.curl(metrics).returncode == 0
