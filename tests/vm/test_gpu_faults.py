"""Faults of GPUs on a node that has none: NVIDIA's library is the fake one of the unit tests."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import pytest

from builder.vm.session import VmNode, VmSize
from tests.build import gpuos
from tests.vm.conftest import BOOT_S, wait_settled
from tests.vm.fakegpu import ENVIRONMENT, FAKE, fit
from tests.vm.test_serving import sudo

pytestmark = [pytest.mark.vm, pytest.mark.long, pytest.mark.timeout(2400)]

NODE_PROFILE = gpuos.NAME
NODE_SIZE = VmSize(disk_bytes=96 << 30)  # sparse: the profile's var has at least 64 GiB
SLOW_S = 600.0


def health(node: VmNode) -> dict[str, Any]:
    told: dict[str, Any] = json.loads(sudo(node, "cat /run/imgnode/health.json"))
    return told


def keys(node: VmNode, check: str = "gpu") -> set[str]:
    return {one["key"] for one in health(node)["checks"][check]["findings"]}


def wait_for(what: Callable[[], bool], text: str) -> float:
    began = time.monotonic()
    while not what():
        assert time.monotonic() - began < SLOW_S, text
        time.sleep(3)
    return time.monotonic() - began


@pytest.fixture(scope="module")
def fitted(up: VmNode, tmp_path_factory: pytest.TempPathFactory) -> VmNode:
    """Give the node the driver's library, which says that there are eight GPUs."""
    fit(up, tmp_path_factory.mktemp("nvml"))
    return up


def test_eight_gpus_are_seen(fitted: VmNode) -> None:
    told = json.loads(sudo(fitted, f"env {ENVIRONMENT} imgnode gpu show --json"))
    assert told["count"] == 8, told
    wait_for(lambda: "count" not in keys(fitted), "still none")


def test_a_driver_that_hangs_is_found_and_nothing_waits_for_it(fitted: VmNode) -> None:
    """Each look of the health loop is a child: it is left behind, and all else goes on."""
    sudo(fitted, f"sh -c 'echo hang.nvmlDeviceGetTemperature 300 >> {FAKE}/scenario'")
    seconds = wait_for(lambda: "hang" in keys(fitted), f"not found: {health(fitted)}")
    print(f"NVML hangs: found after {seconds:.0f} s")
    assert "ImgnodeGpuHang" in sudo(fitted, "imgnode alert status")
    assert int(sudo(fitted, "date +%s")) - health(fitted)["when"] < 120
    print(sudo(fitted, "imgnode recover status"))


def test_it_is_over_when_the_driver_answers(fitted: VmNode) -> None:
    sudo(fitted, f"sh -c 'echo hang.nvmlDeviceGetTemperature 0 >> {FAKE}/scenario'")
    wait_for(lambda: "hang" not in keys(fitted), "still hangs")


def test_a_reset_that_an_xid_asks_for_is_told(fitted: VmNode) -> None:
    line = "NVRM: Xid (PCI:0000:05:00): 48, pid=7, name=VLLM, DBE (double bit error)"
    sudo(fitted, f"sh -c 'echo \"{line}\" > /dev/kmsg'")
    wait_for(lambda: "48" in keys(fitted, "xid"), "not seen")
    assert "ImgnodeXid48" in sudo(fitted, "imgnode alert status")


def test_after_a_reboot_nothing_of_it_is_left(fitted: VmNode) -> None:
    since = fitted.machine.reboot(BOOT_S)
    fitted.machine.wait_for("login:", BOOT_S, since=since)
    wait_settled(fitted)
    assert "hang" not in keys(fitted)
