"""The health loop on a real node: its unit, what it sees, what it costs. Faults of serving have a
table of their own.
"""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from testinfra.host import Host

pytestmark = [pytest.mark.vm, pytest.mark.long]

SEEN_S = 300.0  # an emulated machine is slow
CHECKS = {"certificates", "clock", "disk", "memory", "network", "serve", "units", "xid"}
MEMORY_KIB = 30_000  # recovery and alerts run in the same process


def told(host: Host) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(host.file("/run/imgnode/health.json").content_string)
    return found


def findings(host: Host) -> set[tuple[str, str]]:
    checks = told(host)["checks"]
    return {(name, one["key"]) for name, each in checks.items() for one in each["findings"]}


def wait_for(host: Host, check: str, key: str) -> None:
    end = time.monotonic() + SEEN_S
    while (check, key) not in findings(host):
        assert time.monotonic() < end, f"no {check} {key} in {told(host)}"
        time.sleep(2)


def test_a_node_without_faults(host: Host) -> None:
    assert host.service("imgnode-health").is_running
    assert set(told(host)["checks"]) == CHECKS
    assert findings(host) - {("clock", "unsynchronised")} == set()
    assert told(host)["checks"]["serve"]["class"] == "off"
    done = host.run("imgnode health")
    assert done.rc == 0, done.stdout
    metrics = host.file("/run/imgnode/metrics/health.prom").content_string
    assert 'imgnode_health_level{check="disk"} 0\n' in metrics


def test_an_xid_in_the_kernels_log(host: Host) -> None:
    line = "NVRM: Xid (PCI:0000:05:00): 31, pid=7, name=VLLM, Ch 0000000b, MMU Fault"
    host.check_output(f"echo '{line}' > /dev/kmsg")
    wait_for(host, "xid", "31")
    assert told(host)["checks"]["xid"]["counts"] == {"0000:05:00": {"31": 1}}
    host.check_output("systemctl restart imgnode-health")
    host.check_output(f"echo '{line}' > /dev/kmsg")
    wait_for(host, "xid", "31")
    assert told(host)["checks"]["xid"]["counts"] == {"0000:05:00": {"31": 2}}


def test_a_unit_that_failed(host: Host) -> None:
    host.run("systemd-run --unit=broken.service /bin/false")
    wait_for(host, "units", "failed")
    host.run("systemctl reset-failed broken.service")  # recovery may have done it


def test_what_it_costs(host: Host) -> None:
    pid = host.check_output("systemctl show -P MainPID imgnode-health")
    rss = int(host.check_output(f"ps -o rss= -p {pid}"))
    began = host.check_output(f"cut -d' ' -f14-17 /proc/{pid}/stat")
    time.sleep(120)
    ended = host.check_output(f"cut -d' ' -f14-17 /proc/{pid}/stat")
    print(f"resident: {rss} KiB; ticks of user, system, children: {began} to {ended} in 120 s")
    assert rss < MEMORY_KIB
