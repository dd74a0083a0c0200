"""A node that serves, a receiver of alerts on the host, and faults whose seconds are taken.

The container is the small box with a stand-in for vLLM.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from builder.core.files import remove_tree
from builder.core.process import Runner
from builder.vm.qemu import Accel, HostService
from builder.vm.session import VmNode, VmSize, start_node
from tests.build.boxed import add_node
from tests.build.command import Place, copy_project
from tests.vm.conftest import BOOT_S, FOLDER, ROOT, Image, Record, keep_if_failed, wait_settled
from tests.vm.test_serving import judged, sudo, wait_serving

RECEIVER = "10.0.2.100"
NODE_SEED = "#cloud-config\nhostname: gpu-07\ninference:\n  model: org/toy\n"
# Has vLLM's metrics. While /cache/busy is there it computes, makes a token now and then, and is
# mostly slower than anybody waits.
SERVER = """\
import http.server, json, pathlib, threading, time

BUSY = pathlib.Path("/cache/busy")
made, asked = [0], [0]

def burn():
    token_at = time.monotonic()
    while True:
        if BUSY.exists() and time.monotonic() > token_at + 60:
            token_at = time.monotonic()
            made[0] += 1
        end = time.monotonic() + (0.1 if BUSY.exists() else 0)
        while time.monotonic() < end:
            pass
        time.sleep(0.2)

class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        asked[0] += 1
        if BUSY.exists() and asked[0] % 5:
            time.sleep(8)
        load = 600 if BUSY.exists() else 0
        names = ("num_requests_running", "num_requests_waiting", "generation_tokens_total")
        lines = zip(names, (load, load, made[0]))
        self.say("".join('vllm:%s{engine="0"} %d.0\\n' % one for one in lines))

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        made[0] += 1
        self.say(json.dumps({"choices": [{"text": "x"}], "usage": {"completion_tokens": 1}}))

    def say(self, text):
        data = text.encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

threading.Thread(target=burn, daemon=True).start()
http.server.ThreadingHTTPServer(("", 8000), Answer).serve_forever()
"""
STARTS = "serve: {start_timeout_s: 300}\n"
CACHE = "/var/lib/imgnode/cache"
SLOW_S = 900.0


def build_box(place: Place, extends: str = "cpu") -> Image:
    """Build the box as a node of a site with an Alertmanager, with the checkout's cache.

    `extends` is the profile that it is in, but for the container.
    """
    copy_project(ROOT, place.project, link=False)
    add_node(place, SERVER, extends=extends, more=STARTS)
    site = place.project / "config/sites/debian.yaml"
    site.write_text(f"{site.read_text()}alerts: {{receiver: 'http://{RECEIVER}:9093'}}\n")
    place.build("boxed", env={"IMGBUILD_CACHE": str(FOLDER.parent)}).done()
    return Image(place.out)


class Alertmanager:
    """Takes alerts on a port of the host, and remembers when which came."""

    def __init__(self) -> None:
        self.came: list[tuple[float, dict[str, Any]]] = []
        alertmanager = self

        class Door(BaseHTTPRequestHandler):
            def do_POST(self) -> None:  # noqa: N802 - http.server's name for it
                text = self.rfile.read(int(self.headers["Content-Length"]))
                now = time.monotonic()
                alertmanager.came += [(now, one) for one in json.loads(text)]
                self.send_response(200 if self.path == "/api/v2/alerts" else 404)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Door)
        threading.Thread(target=self.server.serve_forever, args=(0.1,), daemon=True).start()

    def wait(self, name: str, since: float) -> float:
        """Wait for an alert so named that came after `since`; return how many seconds after."""
        deadline = time.monotonic() + SLOW_S
        while time.monotonic() < deadline:
            for at, one in list(self.came):
                if at >= since and one["labels"]["alertname"].startswith(name):
                    return at - since
            time.sleep(1)
        pytest.fail(f"no {name} in {self.came}")

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


@dataclass(frozen=True)
class Served:
    """A node that serves, and who is told of its faults."""

    node: VmNode
    alertmanager: Alertmanager


@contextmanager
def recovering_node(
    request: pytest.FixtureRequest, runner: Runner, folder: Path, accel: Accel
) -> Iterator[Served]:
    """Give a node that serves and whose version is good; `folder` is for its image.

    When a test of the run failed, its logs are kept.
    """
    place = Place(folder)
    alertmanager = Alertmanager()
    services = (HostService(RECEIVER, 9093, alertmanager.server.server_port),)
    try:
        image = build_box(place)
        with start_node(
            runner, image.disk, NODE_SEED, FOLDER, accel=accel, size=VmSize(), services=services
        ) as node:
            node.machine.wait_for("login:", BOOT_S)
            wait_serving(node)
            assert judged(node)["class"] == "ok"
            wait_settled(node)
            yield Served(node, alertmanager)
            keep_if_failed(request, node)
    finally:
        alertmanager.close()
        remove_tree(place.top)


def script(node: VmNode, text: str) -> str:
    return sudo(node, f"bash -euc '{text}'")


def history(node: VmNode, since: int = 0) -> list[dict[str, Any]]:
    """Return what recovery did, but for the clock: no time server answers a machine of a test."""
    told = json.loads(sudo(node, "imgnode recover status --json"))["history"]
    return [one for one in told if one["when"] >= since and one["check"] != "clock"]


def steps(node: VmNode, since: int) -> list[str]:
    return [one["step"] for one in history(node, since) if one["event"] == "step"]


class Fault:
    """A fault from its beginning on: `command` brings it about."""

    def __init__(self, node: VmNode, command: str, record: Record) -> None:
        self.node, self._record = node, record
        self.host = time.monotonic()
        self.since = int(script(node, f"date +%s; {command} >/dev/null").split()[0])

    def wait_mended(self) -> list[str]:
        """Wait until recovery says that it has helped and the node serves; return its steps."""
        deadline = time.monotonic() + SLOW_S
        while time.monotonic() < deadline:
            events = history(self.node, self.since)
            done = [one for one in events if one["event"] == "recovered"]
            if done:
                begun = next(one["when"] for one in events if one["event"] == "begin")
                self.note("first step", begun - self.since)
                self.note("mended", done[-1]["when"] - self.since)
                assert serves(self.node)
                return steps(self.node, self.since)
            time.sleep(3)
        pytest.fail(sudo(self.node, "imgnode recover status"))

    def note(self, name: str, seconds: float) -> None:
        self._record(name, round(seconds))
        print(f"{name}: {seconds:.0f} s")


def serves(node: VmNode) -> bool:
    told = json.loads(sudo(node, "imgnode status --json"))
    return bool(told["serve"]["state"] == "serving")


def wait_for(what: Callable[[], bool], text: str) -> None:
    deadline = time.monotonic() + SLOW_S
    while not what():
        assert time.monotonic() < deadline, f"{text} after {SLOW_S:g} s"
        time.sleep(3)


def container(node: VmNode) -> str:
    done = node.ssh.run('sudo docker inspect -f "{{.Id}}" vllm', 120)
    return done.stdout if done.rc == 0 else ""
