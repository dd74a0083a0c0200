"""Faults of the machine below a node that serves: told, and nothing of its work is lost.

One node, in order. Each row prints its seconds: fault → alert received. A finding of level
warning is told after five minutes (docs/recovery.md). What recovery can mend:
tests/vm/test_recovery.py.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator

import pytest

from builder.core.process import Runner
from builder.vm.qemu import Accel
from builder.vm.session import VmNode
from tests.vm.conftest import Record
from tests.vm.recovering import (
    Alertmanager,
    Fault,
    Served,
    container,
    recovering_node,
    serves,
    steps,
    wait_for,
)
from tests.vm.test_serving import sudo

pytestmark = [pytest.mark.vm, pytest.mark.long, pytest.mark.timeout(3600)]

# Is killed for its own limit, not the machine's: the kernel counts it all the same.
HOG = """import time
held = []
while True:
    held.append(bytearray(b"x" * (1 << 20)))
"""
STORE = "/var/lib/docker/image/overlay2/repositories.json"


@pytest.fixture(scope="module")
def served(
    request: pytest.FixtureRequest,
    runner: Runner,
    accel: Accel,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Served]:
    with recovering_node(request, runner, tmp_path_factory.mktemp("faults"), accel) as made:
        yield made


@pytest.fixture
def up(served: Served) -> VmNode:
    return served.node


@pytest.fixture
def alertmanager(served: Served) -> Alertmanager:
    return served.alertmanager


def events(node: VmNode) -> int:
    """Return how much recovery has ever done; it must not act where it cannot help."""
    return len(steps(node, 0))


def findings(node: VmNode) -> set[tuple[str, str]]:
    checks = json.loads(sudo(node, "cat /run/imgnode/health.json"))["checks"]
    return {(name, one["key"]) for name, each in checks.items() for one in each["findings"]}


def test_a_full_disk_is_told_and_serving_goes_on(
    up: VmNode, alertmanager: Alertmanager, record_property: Record
) -> None:
    before = container(up), events(up)
    size = "$(($(df --output=avail -B1 /var | tail -1) - (20 << 20)))"
    fault = Fault(up, f"fallocate -l {size} /var/tmp/fill", record_property)
    fault.note("alert", alertmanager.wait("ImgnodeDiskFull", fault.host))
    assert serves(up)
    sudo(up, "rm /var/tmp/fill")
    wait_for(lambda: ("disk", "full") not in findings(up), "still full")
    assert (container(up), events(up)) == before
    assert "serving" in sudo(up, "imgnode model show")


def test_want_of_memory_is_told_and_serving_goes_on(
    up: VmNode, alertmanager: Alertmanager, record_property: Record
) -> None:
    before = container(up), events(up)
    sudo(up, f"tee /run/hog.py <<'END'\n{HOG}END")
    # A unit that failed would be restarted, which is not what this is about.
    clean = "-p OOMPolicy=continue -p SuccessExitStatus=SIGKILL"
    hog = f"systemd-run --unit=hog {clean} -p MemoryMax=96M python3 /run/hog.py"
    fault = Fault(up, hog, record_property)
    fault.note("alert", alertmanager.wait("ImgnodeMemoryOom", fault.host))
    assert serves(up)
    up.ssh.run("sudo systemctl stop hog; sudo systemctl reset-failed hog")
    assert (container(up), events(up)) == before


def test_an_xid_that_asks_for_nothing_is_counted_and_restarts_nothing(
    up: VmNode, record_property: Record
) -> None:
    line = "NVRM: Xid (PCI:0000:05:00): 63, pid=7, name=VLLM, Row Remapper: new row marked"
    before = container(up), events(up)
    fault = Fault(up, f'(echo "{line}" > /dev/kmsg)', record_property)
    wait_for(lambda: '"63": 1' in sudo(up, "cat /run/imgnode/health.json"), "not seen")
    assert not [key for check, key in findings(up) if check == "xid"]
    fault.note("seen", time.monotonic() - fault.host)
    assert (container(up), events(up)) == before


def test_a_clock_that_jumps_is_told_and_restarts_nothing(
    up: VmNode, alertmanager: Alertmanager, record_property: Record
) -> None:
    before = container(up), events(up)
    fault = Fault(up, 'date -s "1 hour"', record_property)
    wait_for(lambda: ("clock", "jump") in findings(up), "not seen")
    fault.note("alert", alertmanager.wait("ImgnodeClockJump", fault.host))
    sudo(up, 'date -s "1 hour ago"')
    time.sleep(60)
    assert serves(up)
    assert (container(up), events(up)) == before


def test_a_pulled_cable_is_told_when_it_is_back_and_restarts_nothing(
    up: VmNode, alertmanager: Alertmanager
) -> None:
    before = container(up), events(up)
    since = time.monotonic()
    up.machine.set_cable(plugged=False)
    time.sleep(90)
    up.machine.set_cable(plugged=True)
    print(f"cable out for 90 s; alert: {alertmanager.wait('ImgnodeNetworkCarrier', since):.0f} s")
    wait_for(lambda: up.ssh.run("true").rc == 0, "no SSH")
    wait_for(lambda: ("network", "carrier") not in findings(up), "still no carrier")
    assert serves(up)
    assert (container(up), events(up)) == before


def test_a_damaged_store_of_docker_is_mended(up: VmNode, record_property: Record) -> None:
    """Docker does not start with it: so the store is made anew."""
    before = container(up)
    damage = f"echo {{ > {STORE}; rm -rf /var/lib/docker/image/overlay2/imagedb"
    fault = Fault(up, f"{damage}; systemctl kill -s KILL docker.service", record_property)
    wait_for(lambda: container(up) not in ("", before) and serves(up), "not served again")
    fault.note("mended", time.monotonic() - fault.host)
    assert sudo(up, "docker images --quiet").strip()
