"""The exporter's GPU metrics beside nvidia-smi(1), idle and at work, and what they cost."""

from __future__ import annotations

import resource
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from imgnode.exporter.gpu import GpuCollector
from imgnode.gpu import nvml

pytestmark = pytest.mark.gpu
_WARM_S = 25.0
# Memory is taken by plain allocations; the products keep all multiprocessors busy.
_LOAD = """\
import time, torch
a = torch.randn(8192, 8192, device="cuda", dtype=torch.bfloat16)
held = torch.empty(4 << 30, device="cuda", dtype=torch.uint8)
print("ready", flush=True)
until = time.monotonic() + 60
while time.monotonic() < until:
    a @ a
    torch.cuda.synchronize()
"""
# Our metric, nvidia-smi's name, its unit in ours, how far apart two looks may be.
_SAME = (
    ("imgnode_gpu_memory_total_bytes", "memory.total", 1 << 20, 1 << 20),
    ("imgnode_gpu_memory_used_bytes", "memory.used", 1 << 20, 1 << 30),
    ("imgnode_gpu_temperature_celsius", "temperature.gpu", 1, 8),
    ("imgnode_gpu_memory_temperature_celsius", "temperature.memory", 1, 8),
    ("imgnode_gpu_power_limit_watts", "power.limit", 1, 0.5),
    ("imgnode_gpu_pcie_link_width", "pcie.link.width.current", 1, 0),
    ('imgnode_gpu_ecc_errors_total{type="uncorrected"}', "ecc.errors.uncorrected.volatile.total",
     1, 0),
    ('imgnode_gpu_remapped_rows_total{type="uncorrected"}',
     "remapped_rows.uncorrectable", 1, 0),
)  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def driver() -> None:
    if nvml.open_driver() is not None:
        pytest.skip("no NVIDIA driver answers here")
    nvml.close_driver()


@pytest.fixture(scope="module")
def collector() -> Iterator[GpuCollector]:
    found = GpuCollector()
    end = threading.Event()

    def follow() -> None:
        while not end.is_set():
            found.collect(time.monotonic() + 1)

    thread = threading.Thread(target=follow)
    thread.start()
    limit = time.monotonic() + _WARM_S
    while not found.text and time.monotonic() < limit:
        time.sleep(0.2)
    yield found
    end.set()
    thread.join()
    found.close()


@pytest.fixture
def load() -> Iterator[None]:
    """A program that computes on the first GPU for a minute."""
    pytest.importorskip("torch", reason="nothing here can make a GPU work")
    process = subprocess.Popen([sys.executable, "-c", _LOAD], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    time.sleep(_WARM_S)
    yield
    process.kill()
    process.wait()


def test_it_says_what_nvidia_smi_says(collector: GpuCollector) -> None:
    ours = values(collector.text)
    assert ours["imgnode_gpu_lost"] == 0
    for metric, name, unit, apart in _SAME:
        theirs = smi(name)
        if theirs is None:
            assert metric not in ours, name
        else:
            assert abs(ours[metric] - theirs * unit) <= apart, (metric, ours[metric], theirs)


@pytest.mark.usefixtures("load")
def test_work_shows(collector: GpuCollector) -> None:
    ours = values(collector.text)
    assert ours["imgnode_gpu_utilization_ratio"] > 0.5
    assert ours["imgnode_gpu_memory_used_bytes"] > 4 << 30
    assert ours["imgnode_gpu_processes"] >= 1
    assert ours["imgnode_gpu_power_watts"] > 0.3 * ours["imgnode_gpu_power_limit_watts"]
    assert ours['imgnode_gpu_clock_hertz{clock="sm"}'] > 500e6
    assert ours['imgnode_gpu_throttled{reason="thermal_hardware"}'] == 0


def test_a_look_is_cheap() -> None:
    """Prints the figures: a look every 10 s may take 1 % of a core, that is 100 ms."""
    assert nvml.open_driver() is None
    times = []
    for _ in range(20):
        began, used = time.monotonic(), resource.getrusage(resource.RUSAGE_SELF)
        assert nvml.samples()["state"] == "ok"
        done = resource.getrusage(resource.RUSAGE_SELF)
        cpu = done.ru_utime + done.ru_stime - used.ru_utime - used.ru_stime
        times.append((time.monotonic() - began, cpu))
    nvml.close_driver()
    wall, cpu = (sorted(column)[len(times) // 2] for column in zip(*times, strict=True))
    print(f"one look: {wall * 1e3:.1f} ms, {cpu * 1e3:.1f} ms of processor time")
    assert cpu < 0.1


def values(text: str) -> dict[str, float]:
    """Return the samples of the first GPU by name and the labels besides it."""
    found = {}
    for line in text.splitlines():
        if not line.startswith("#") and 'gpu="0"' in line and "_info{" not in line:
            name, number = line.rsplit(" ", 1)
            plain = name.replace('gpu="0",', "").replace('gpu="0"', "").replace("{}", "")
            found[plain] = float(number)
    return found


def smi(name: str) -> float | None:
    """Return what nvidia-smi says of the first GPU; None for what the board does not have."""
    argv = ["nvidia-smi", "-i", "0", f"--query-gpu={name}", "--format=csv,noheader,nounits"]
    said = subprocess.run(argv, capture_output=True, text=True, check=True).stdout.strip()
    return None if said.startswith("[") or said == "N/A" else float(said)


def test_the_machine_has_the_files_that_a_container_needs() -> None:
    """imgnode/gpu/nodes.py makes these where they are missing; here somebody already has."""
    if not Path("/proc/driver/nvidia").exists():
        pytest.skip("the driver's /proc is hidden here")
    assert Path("/dev/nvidiactl").is_char_device()
    assert Path("/dev/nvidia-uvm").is_char_device()
