"""Faults on a node that serves: seen, mended by the ladder, told to an Alertmanager on the host.

One node, in order. Each row prints its seconds: fault → first step, fault → mended, fault → alert
received. Faults of the machine: tests/vm/test_faults.py.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator

import pytest

from builder.core.process import Runner
from builder.vm.qemu import Accel
from builder.vm.session import VmNode
from tests.vm.conftest import Record
from tests.vm.recovering import (
    CACHE,
    Alertmanager,
    Fault,
    Served,
    container,
    history,
    recovering_node,
    script,
    serves,
    steps,
    wait_for,
)
from tests.vm.test_serving import sudo

SATURATED_S = float(os.environ.get("SATURATED_S", "600"))
pytestmark = [pytest.mark.vm, pytest.mark.long, pytest.mark.timeout(2400 + int(SATURATED_S))]

LADDER = ["stop-service", "remove-container", "restart-docker", "start-service"]


@pytest.fixture(scope="module")
def served(
    request: pytest.FixtureRequest,
    runner: Runner,
    accel: Accel,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Served]:
    with recovering_node(request, runner, tmp_path_factory.mktemp("recovery"), accel) as made:
        yield made


@pytest.fixture
def up(served: Served) -> VmNode:
    return served.node


@pytest.fixture
def alertmanager(served: Served) -> Alertmanager:
    return served.alertmanager


def test_a_server_that_stands_still_is_started_anew(
    up: VmNode, alertmanager: Alertmanager, record_property: Record
) -> None:
    stop = 'kill -STOP $(docker inspect -f "{{.State.Pid}}" vllm)'
    fault = Fault(up, stop, record_property)
    fault.note("alert", alertmanager.wait("ImgnodeServeStalled", fault.host))
    assert "stalled" in sudo(up, "cat /run/motd.d/imgnode-alert")  # until two minutes after it
    assert fault.wait_mended() == LADDER
    told = (one["labels"] for _, one in alertmanager.came)
    labels = next(one for one in told if one["alertname"] == "ImgnodeServeStalled")
    assert (labels["instance"], labels["severity"]) == ("gpu-07", "critical")
    assert 'steps_total{step="restart-docker"} 1' in sudo(
        up, "cat /run/imgnode/metrics/recover.prom"
    )


def test_too_much_work_restarts_nothing(up: VmNode) -> None:
    before = container(up)
    since = int(script(up, f"for one in {CACHE}/*/; do touch ${{one}}busy; done; date +%s"))
    try:
        time.sleep(SATURATED_S)
        assert container(up) == before
        assert history(up, since) == []
        health = json.loads(sudo(up, "cat /run/imgnode/health.json"))
        assert health["checks"]["serve"]["class"] == "saturated"
    finally:
        script(up, f"rm {CACHE}/*/busy")


def test_a_container_that_is_killed_is_systemds_matter(up: VmNode, record_property: Record) -> None:
    before = container(up)
    fault = Fault(up, "docker kill vllm", record_property)
    wait_for(lambda: serves(up) and container(up) != before, "not served again")
    fault.note("mended", time.monotonic() - fault.host)
    assert steps(up, fault.since) == []


def test_a_docker_that_is_killed_is_systemds_matter(up: VmNode, record_property: Record) -> None:
    """On a slow machine three starts of the server may fail meanwhile; then recovery helps."""
    before = container(up)
    fault = Fault(up, "systemctl kill -s KILL docker.service", record_property)
    wait_for(lambda: container(up) not in ("", before) and serves(up), "not served again")
    fault.note("mended", time.monotonic() - fault.host)
    assert set(steps(up, fault.since)) <= {"restart-docker", "start-service"}


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
