"""What the node's own services cost it, on one that serves and has eight (fake) GPUs.

Asserts memory alone: this machine is emulated, its seconds are not those of a node.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from builder.core.files import remove_tree
from builder.core.process import Runner
from builder.model.site import Monitoring
from builder.vm.qemu import Accel
from builder.vm.session import VmNode, VmSize, start_node
from tests.build.command import Place
from tests.vm.conftest import BOOT_S, FOLDER, keep_if_failed, wait_settled
from tests.vm.fakegpu import ENVIRONMENT, UNITS, fit
from tests.vm.recovering import NODE_SEED, build_box
from tests.vm.test_gpu_faults import keys, wait_for
from tests.vm.test_serving import sudo, wait_serving

pytestmark = [pytest.mark.vm, pytest.mark.long, pytest.mark.timeout(2400)]

MOST_MEMORY = 60e6  # bytes, of all together
SERVICES = (*UNITS, "vllm")
DOCKER = "docker"  # its client is a child of vllm.service, and not ours
WARM_S, MEASURED_S = 120.0, 120.0
DEVICES = """\
for n in 0 1 2 3 4 5 6 7; do mknod -m 666 /dev/nvidia$n c 195 $n; done
mknod -m 666 /dev/nvidiactl c 195 255
mknod -m 666 /dev/nvidia-uvm c 507 0
"""
# Prints a JSON object: for each process of each service its name and what it holds, in bytes.
LOOK = """\
import json, pathlib, sys

found = []
for unit in sys.argv[1:]:
    group = pathlib.Path(f"/sys/fs/cgroup/system.slice/{unit}.service")
    for pid in (word for one in group.rglob("cgroup.procs") for word in one.read_text().split()):
        process = pathlib.Path("/proc", pid)
        try:
            name = (process / "comm").read_text().strip()
            lines = (process / "smaps_rollup").read_text().splitlines()
        except OSError:
            continue
        (size,) = (int(one.split()[1]) for one in lines if one.startswith("Pss:"))
        found.append((unit, name, 1024 * size))
print(json.dumps(found))
"""
PAGE = f"http://127.0.0.1:{Monitoring.imgnode_port}/metrics"


@dataclass(frozen=True)
class Held:
    """What one process of a service holds in bytes, with what it shares counted once (Pss)."""

    unit: str
    name: str
    size: int


@pytest.fixture(scope="module")
def fitted(
    request: pytest.FixtureRequest,
    runner: Runner,
    accel: Accel,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[VmNode]:
    """Give a node of profile multi that serves; its container holds a stand-in for vLLM."""
    place = Place(tmp_path_factory.mktemp("cost"))
    size = VmSize(disk_bytes=96 << 30)  # sparse: the profile's var has at least 64 GiB
    try:
        image = build_box(place, "multi")
        with start_node(runner, image.disk, NODE_SEED, FOLDER, accel=accel, size=size) as node:
            node.machine.wait_for("login:", BOOT_S)
            wait_settled(node)
            sudo(node, f"bash -euc '{DEVICES}'")
            fit(node, tmp_path_factory.mktemp("nvml"), SERVICES)
            # It was without GPUs, and in quarantine for that.
            wait_for(lambda: "count" not in keys(node), "health sees no GPU")
            wait_for(lambda: accepted(node), "the gate sees no GPU")
            sudo(node, "systemctl restart --no-block vllm")
            wait_serving(node)
            yield node
            keep_if_failed(request, node)
    finally:
        remove_tree(place.top)


def accepted(node: VmNode) -> bool:
    """Have the gate judge the node anew; tell whether it may serve.

    The gate lifts its own quarantine, a person that of recovery, where health had the time for one.
    """
    node.ssh.run("sudo imgnode recover release", 120)
    sudo(node, f"env {ENVIRONMENT} imgnode gate run")
    marks = "/run/imgnode/quarantine /var/lib/imgnode/recover/quarantine"
    return node.ssh.run(f"ls {marks}", 120).stdout == ""


def look(node: VmNode) -> list[Held]:
    """Return what the processes of our services hold now."""
    told = sudo(node, f"python3 -c '{LOOK}' {' '.join(SERVICES)}")
    return [Held(*one) for one in json.loads(told)]


def spent(node: VmNode) -> float:
    """Return the processor time of our services so far, in seconds."""
    shown = sudo(node, f"systemctl show -P CPUUsageNSec {' '.join(SERVICES)}")
    return sum(int(word) for word in shown.split()) / 1e9


def test_all_services_together_are_small(fitted: VmNode) -> None:
    wait_for(lambda: "imgnode_gpu_" in sudo(fitted, f"curl -s {PAGE}"), "no GPU is exported")
    time.sleep(WARM_S)
    before, began = spent(fitted), time.monotonic()
    looks = []
    while time.monotonic() < began + MEASURED_S:
        looks.append(look(fitted))
        time.sleep(2)
    share = (spent(fitted) - before) / (time.monotonic() - began)
    scrape = f"curl -s -o /dev/null -w %{{time_total}} {PAGE}"
    times = sorted(float(sudo(fitted, scrape)) for _ in range(10))
    looks.sort(key=own)
    usual, most = looks[len(looks) // 2], looks[-1]
    for one in most:
        print(f"{one.unit} {one.name}: {one.size / 1e6:.1f} MB")
    print(
        f"ours: {own(usual) / 1e6:.1f} MB, with children that come and go at most "
        f"{own(most) / 1e6:.1f} MB; emulated: {100 * share:.2f} % of a processor, "
        f"scrape {1e3 * times[5]:.0f} ms"
    )
    assert {one.unit for one in usual if one.name != DOCKER} == set(SERVICES)
    assert own(usual) <= MOST_MEMORY


def own(looked: list[Held]) -> int:
    """Return the bytes of our own processes."""
    return sum(one.size for one in looked if one.name != DOCKER)
