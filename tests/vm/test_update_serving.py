"""Updates of a node that serves: what is running ends first, what does not serve goes back.

One node, in order; the container is the small box with a stand-in server. The times are those of
this machine, and go into docs/updates.md.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests

from builder.core.files import remove_tree
from builder.core.process import Runner
from builder.vm.qemu import API_PORT, Accel, HostService
from builder.vm.session import VmNode, VmSize, start_node
from tests.build.boxed import add_node
from tests.build.standin import BREAKS, STAND_IN
from tests.vm.conftest import (
    BOOT_S,
    FOLDER,
    ROOT,
    Record,
    keep_if_failed,
    note,
    wait_settled,
)
from tests.vm.releases import Releases
from tests.vm.test_serving import judged, sudo, wait_serving
from tests.vm.updates import refused, slots, status
from tests.vm.versions import SERVER, Versions, make_versions

pytestmark = [pytest.mark.vm, pytest.mark.long, pytest.mark.timeout(3600)]

FIRST, BROKEN, SECOND, FOURTH = "2099.1", "2099.3", "2099.3.5", "2099.4"
NODE_SEED = "#cloud-config\nhostname: gpu-07\ninference:\n  model: org/toy\n"
SLOW_S = 1500.0


@pytest.fixture(scope="module")
def versions(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Versions]:
    """Release a first version that serves."""
    made = make_versions(ROOT, tmp_path_factory.mktemp("serving"), FOLDER.parent, "boxed")
    try:
        bring_out(made, FIRST, STAND_IN)
        yield made
    finally:
        remove_tree(made.place.top)


def bring_out(versions: Versions, version: str, server: str) -> None:
    """Build and release a version with a server of its own."""
    add_node(versions.place, server)
    versions.build(version)
    versions.release(version)


@pytest.fixture(scope="module")
def releases(versions: Versions) -> Iterator[Releases]:
    with Releases(versions.repository) as server:
        yield server


@pytest.fixture(scope="module")
def up(
    request: pytest.FixtureRequest,
    runner: Runner,
    versions: Versions,
    accel: Accel,
    releases: Releases,
) -> Iterator[VmNode]:
    """Give a node of the first version once it serves and is good."""
    services = (HostService(SERVER, 80, releases.port),)
    disk = versions.place.top / "images" / FIRST / "disk.raw"
    with start_node(
        runner, disk, NODE_SEED, FOLDER, accel=accel, size=VmSize(), services=services
    ) as started:
        wait_serving(started)
        assert judged(started)["class"] == "ok"
        wait_settled(started)
        yield started
        keep_if_failed(request, started)


def begin_update(node: VmNode) -> None:
    """Start an update that reboots, without waiting for it."""
    command = "imgnode update apply --reboot --drain-s 1200"
    sudo(node, f"systemd-run --unit=updating --collect {command}")


def wait_for(what: Callable[[], bool], text: str) -> None:
    deadline = time.monotonic() + SLOW_S
    while not what():
        assert time.monotonic() < deadline, f"{text} after {SLOW_S:g} s"
        time.sleep(1)


def wait_version(node: VmNode, version: str, since: int) -> None:
    """Wait until a version serves, whatever boots come before."""
    while True:
        since = node.machine.wait_for("login:", SLOW_S, since=since).end
        node.ssh.wait_ready(BOOT_S)
        told = node.ssh.run("sudo imgnode update status --json", 120)
        if told.rc == 0 and json.loads(told.stdout)["running"] == version:
            wait_serving(node)
            return


def gate_metric(node: VmNode) -> str:
    return sudo(node, "cat /run/imgnode/metrics/gate.prom")


def test_a_version_whose_server_is_broken_goes_back_by_itself(
    up: VmNode, versions: Versions, record_property: Record
) -> None:
    bring_out(versions, BROKEN, BREAKS)
    since, began = up.machine.serial.position(), time.monotonic()
    begin_update(up)
    boot = up.machine.wait_for("EFI stub: Loaded initrd", SLOW_S, since=since).end
    note(record_property, "broken: from apply to its first boot", began)
    booted = time.monotonic()
    wait_version(up, FIRST, boot)
    note(record_property, "broken: from its first boot to the old version serving", booted)
    note(record_property, "broken: from apply to the old version serving", began)
    assert judged(up)["class"] == "ok"
    assert slots(up) == {FIRST: None, BROKEN: 0}
    history = json.loads(sudo(up, "imgnode gate show --json"))["history"]
    blamed = [(one["class"], one["tries"]) for one in history if one["version"] == BROKEN]
    assert blamed == [("image", "+2-1"), ("image", "+1-2"), ("image", "+0-3")]
    text = next(one["text"] for one in history if one["version"] == BROKEN)
    assert "RuntimeError: this version cannot serve" in text
    assert f"_{FIRST} served it" in text
    assert "three times" in status(up)["failed"][BROKEN]
    assert "failed-here" in refused(up, "sudo imgnode update apply")


def test_a_completion_that_runs_ends_whole_before_the_reboot(
    up: VmNode, versions: Versions, record_property: Record
) -> None:
    bring_out(versions, SECOND, STAND_IN)
    address = f"http://127.0.0.1:{up.machine.ports[API_PORT]}"
    ask = {"model": "org/toy", "prompt": "hold", "max_tokens": 1}

    def is_refused() -> bool:
        try:
            requests.get(f"{address}/health", timeout=20)
        except requests.ConnectionError:
            return True
        return False

    def runs() -> bool:
        return 'running{engine="0"} 1' in sudo(up, "curl -s http://127.0.0.1:8000/metrics")

    with ThreadPoolExecutor() as pool:
        held = pool.submit(requests.post, f"{address}/v1/completions", json=ask, timeout=SLOW_S)
        wait_for(runs, "no completion runs")
        assert not is_refused()
        since, began = up.machine.serial.position(), time.monotonic()
        begin_update(up)
        wait_for(is_refused, "connections are taken")
        note(record_property, "good: from apply to the drain", began)
        assert "draining: 1 requests run" in sudo(up, "journalctl -b -u updating -o cat")
        assert not held.done()
        assert status(up)["running"] == FIRST
        sudo(up, "curl -s http://127.0.0.1:8000/finish")
        answer = held.result(60)
    assert answer.json()["choices"][0]["text"] == "whole"
    drained = time.monotonic()
    wait_version(up, SECOND, since)
    note(record_property, "good: from the drain to the new version serving", drained)
    note(record_property, "good: from apply to the new version serving", began)
    assert judged(up)["class"] == "ok"
    wait_settled(up)
    assert slots(up) == {FIRST: None, SECOND: None}


def test_a_bad_model_setting_keeps_the_new_version(
    up: VmNode, versions: Versions, record_property: Record
) -> None:
    """The seed changes together with the version, and it is the seed that is wrong."""
    before = status(up)["running"]
    bring_out(versions, FOURTH, STAND_IN)
    more = r"s|^\( *\)model: org/toy|&\n\1max_model_len: 99999|"
    script = "mkdir /run/seed; mount /dev/disk/by-partlabel/cidata /run/seed; "
    script += f"sed -i '{more}' /run/seed/user-data; cat /run/seed/user-data; umount /run/seed"
    done = up.ssh.run(f"sudo sh -e -c {json.dumps(script)}", 120)
    assert "max_model_len: 99999" in done.stdout, done.stderr
    since, began = up.machine.serial.position(), time.monotonic()
    begin_update(up)
    wait_version(up, FOURTH, since)
    note(record_property, "bad setting: from apply to the last good config serving", began)
    told = judged(up)
    assert told["class"] == "config"
    assert told["then"] == "the image is kept: mend the config"
    assert "the last good config serves" in told["text"]
    assert "max_model_len is greater" in sudo(up, "journalctl -b -u vllm.service -o cat")
    wait_settled(up)
    assert slots(up) == {before: None, FOURTH: None}
    assert (status(up)["running"], status(up)["failed"].get(FOURTH)) == (FOURTH, None)
    assert 'imgnode_gate_verdict{class="config"} 1' in gate_metric(up)
    assert "imgnode_serve_config_fallback 1" in sudo(up, "cat /run/imgnode/metrics/serve.prom")
    assert "gate: config: " in sudo(up, "cat /run/motd.d/imgnode-gate")
    up.machine.wait_for("gate: config: ", 120, since=since)
    answer = {"model": "org/toy", "prompt": "x", "max_tokens": 1}
    address = f"http://127.0.0.1:{up.machine.ports[API_PORT]}/v1/completions"
    assert requests.post(address, json=answer, timeout=120).status_code == 200
