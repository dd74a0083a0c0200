"""Faults on a node that serves: seen, mended by the ladder, told to an Alertmanager on the host.

One node, in order; the container is the small box with a stand-in for vLLM. Each row prints its
seconds: fault → first step, fault → mended, fault → alert received.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from builder.core.files import remove_tree
from builder.core.process import Runner
from builder.vm.keep import keep_evidence
from builder.vm.qemu import Accel, HostService
from builder.vm.session import VmNode, VmSize, start_node
from tests.build.boxed import FILES, RECIPE
from tests.build.command import Place, copy_project
from tests.vm.conftest import BOOT_S, FOLDER, ROOT, Image, wait_settled
from tests.vm.test_serving import judged, sudo, wait_serving

pytestmark = [pytest.mark.vm, pytest.mark.long, pytest.mark.timeout(2400)]

RECEIVER = "10.0.2.100"
NODE_SEED = "#cloud-config\nhostname: gpu-07\ninference:\n  model: org/toy\n"
PROFILE = """\
extends: cpu
description: a small container with a stand-in for vLLM
container: recipe:box
models: [toy]
serve: {start_timeout_s: 300}
"""
# Has vLLM's metrics. While /cache/busy is there it computes and is slower than anybody waits.
SERVER = """\
import http.server, json, pathlib, threading, time

BUSY = pathlib.Path("/cache/busy")
made = [0]

def burn():
    while True:
        end = time.monotonic() + (0.1 if BUSY.exists() else 0)
        while time.monotonic() < end:
            pass
        time.sleep(0.2)

class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        if BUSY.exists():
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
WARM = f"import pathlib, sys\n\npathlib.Path(sys.argv[1], 'server.py').write_text({SERVER!r})\n"
ENTRY = "entrypoint: [python3, /usr/local/share/imgnode/cache/server.py]"
CACHE = "/var/lib/imgnode/cache"
LADDER = ["stop-service", "remove-container", "restart-docker", "start-service"]
SLOW_S = 900.0
Record = Callable[[str, object], None]


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Image]:
    """Build the box as a node of a site with an Alertmanager, with the checkout's cache."""
    place = Place(tmp_path_factory.mktemp("recovery"))
    copy_project(ROOT, place.project, link=False)
    for name, text in FILES.items():
        place.write(name, text)
    place.write("config/profiles/boxed.yaml", PROFILE)
    place.write("image/containers/box/recipe.yaml", RECIPE.replace("entrypoint: [python3]", ENTRY))
    place.write("image/containers/box/warm.py", WARM)
    site = place.project / "config/sites/debian.yaml"
    site.write_text(f"{site.read_text()}alerts: {{receiver: 'http://{RECEIVER}:9093'}}\n")
    try:
        place.build("boxed", env={"IMGBUILD_CACHE": str(FOLDER.parent)}).done()
        yield Image(place.out)
    finally:
        remove_tree(place.top)


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


@pytest.fixture(scope="module")
def alertmanager() -> Iterator[Alertmanager]:
    made = Alertmanager()
    yield made
    made.server.shutdown()
    made.server.server_close()


@pytest.fixture(scope="module")
def up(
    request: pytest.FixtureRequest,
    runner: Runner,
    image: Image,
    accel: Accel,
    alertmanager: Alertmanager,
) -> Iterator[VmNode]:
    """Give the node once it serves, and its version is good."""
    services = (HostService(RECEIVER, 9093, alertmanager.server.server_port),)
    with start_node(
        runner, image.disk, NODE_SEED, FOLDER, accel=accel, size=VmSize(), services=services
    ) as started:
        started.machine.wait_for("login:", BOOT_S)
        wait_serving(started)
        assert judged(started)["class"] == "ok"
        wait_settled(started)
        yield started
        if request.session.testsfailed:
            logs = ROOT / "out" / "failed-tests" / request.module.__name__
            print(keep_evidence(started.machine, started.ssh, logs))


def script(node: VmNode, text: str) -> str:
    return sudo(node, f"bash -euc '{text}'")


def history(node: VmNode, since: int) -> list[dict[str, Any]]:
    told = json.loads(sudo(node, "imgnode recover status --json"))
    return [one for one in told["history"] if one["when"] >= since]


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


def test_a_server_that_stands_still_is_started_anew(
    up: VmNode, alertmanager: Alertmanager, record_property: Record
) -> None:
    stop = 'kill -STOP $(docker inspect -f "{{.State.Pid}}" vllm)'
    fault = Fault(up, stop, record_property)
    fault.note("alert", alertmanager.wait("ImgnodeServeStalled", fault.host))
    assert fault.wait_mended() == LADDER
    told = (one["labels"] for _, one in alertmanager.came)
    labels = next(one for one in told if one["alertname"] == "ImgnodeServeStalled")
    assert (labels["instance"], labels["severity"]) == ("gpu-07", "critical")
    assert "stalled" in sudo(up, "cat /run/motd.d/imgnode-alert")  # two minutes longer
    assert 'steps_total{step="restart-docker"} 1' in sudo(
        up, "cat /run/imgnode/metrics/recover.prom"
    )


def test_too_much_work_restarts_nothing(up: VmNode) -> None:
    before = sudo(up, 'docker inspect -f "{{.Id}}" vllm')
    since = int(script(up, f"for one in {CACHE}/*/; do touch ${{one}}busy; done; date +%s"))
    time.sleep(200)
    assert sudo(up, 'docker inspect -f "{{.Id}}" vllm') == before
    assert history(up, since) == []
    health = json.loads(sudo(up, "cat /run/imgnode/health.json"))
    assert health["checks"]["serve"]["class"] == "saturated"
    script(up, f"rm {CACHE}/*/busy")


def test_a_container_that_is_killed_is_systemds_matter(up: VmNode) -> None:
    before = sudo(up, 'docker inspect -f "{{.Id}}" vllm')
    since = int(script(up, "date +%s; docker kill vllm >/dev/null"))
    wait_for(lambda: serves(up) and container(up) != before, "not served again")
    assert steps(up, since) == []


def test_a_docker_that_is_killed_is_systemds_matter(up: VmNode) -> None:
    before = container(up)
    since = int(script(up, "date +%s; systemctl kill -s KILL docker.service"))
    wait_for(lambda: container(up) not in ("", before) and serves(up), "not served again")
    assert steps(up, since) == []


def test_a_docker_that_hangs_is_killed(
    up: VmNode, alertmanager: Alertmanager, record_property: Record
) -> None:
    fault = Fault(up, "kill -STOP $(pidof dockerd)", record_property)
    fault.note("alert", alertmanager.wait("ImgnodeDockerHung", fault.host))
    assert fault.wait_mended()[0] in ("restart-docker", "stop-service")


def test_a_corrupted_config_is_the_images_own_again(
    up: VmNode, alertmanager: Alertmanager, record_property: Record
) -> None:
    broken = "echo { > /etc/docker/daemon.json; systemctl kill -s KILL docker.service"
    fault = Fault(up, broken, record_property)
    fault.note("alert", alertmanager.wait("ImgnodeDocker", fault.host))  # dead, or its socket waits
    assert "repair-config" in fault.wait_mended()
    json.loads(sudo(up, "cat /etc/docker/daemon.json"))
    alertmanager.wait("ImgnodeRecoverFailing", fault.host)  # the rung before it did not help


def test_a_quarantine_lasts_until_it_is_released(up: VmNode) -> None:
    sudo(up, 'imgnode recover quarantine "a person tries it"')
    wait_for(lambda: not serves(up), "still served")
    sudo(up, "imgnode gate run")  # what it lifts is its own
    assert "QUARANTINE: a person tries it" in sudo(up, "imgnode status")
    sudo(up, "systemctl start vllm.service")
    assert up.ssh.run("systemctl is-active vllm.service").stdout.strip() == "inactive"
    sudo(up, "imgnode recover release")
    wait_for(lambda: serves(up), "not served again")


def test_a_support_bundle_of_a_real_node(up: VmNode) -> None:
    told = sudo(up, "imgnode support-bundle --out /var/tmp/node.tar.gz")
    names = sudo(up, "tar -tzf /var/tmp/node.tar.gz").split()
    assert "/var/tmp/node.tar.gz: " in told
    assert {"node/journal/this-boot.txt", "node/docker/vllm.json"} <= set(names)


def container(node: VmNode) -> str:
    done = node.ssh.run('sudo docker inspect -f "{{.Id}}" vllm', 120)
    return done.stdout if done.rc == 0 else ""
