"""The GPUs' metrics, by a real child and a library that behaves like NVIDIA's."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from imgnode.exporter import gpu
from imgnode.exporter.gpu import GpuCollector
from imgnode.exporter.gpuvalues import as_text
from imgnode.exporter.names import GPU
from tests.unit.exporter_node import values
from tests.unit.gpu_node import Machine, build, machine

PYTHON = Path(sys.executable).name
pytestmark = pytest.mark.allow_commands(PYTHON, "cc", "sh")
MOMENT_S = 20.0


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("nvml"))


@pytest.fixture
def node(library: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    monkeypatch.setattr(gpu, "EVERY_S", 0.1)
    return machine(library, tmp_path, monkeypatch)


@pytest.fixture
def collector() -> Iterator[GpuCollector]:
    one = GpuCollector()
    yield one
    one.close()


def seen(one: GpuCollector) -> dict[str, float]:
    """Return what is shown once something is."""
    wait(one, shows=True)
    return values(one.text)


def wait(one: GpuCollector, *, shows: bool) -> None:
    ends = time.monotonic() + MOMENT_S
    while bool(one.text) != shows and time.monotonic() < ends:
        one.collect(time.monotonic() + 0.1)
    assert bool(one.text) == shows


def test_eight_gpus(node: Machine, collector: GpuCollector) -> None:
    node.say("gpu3.slowdown 0x48", "gpu4.uncorrected.volatile 2", "gpu5.rows_uncorrectable 1")
    node.say("gpu6.pcie_replays 7", "gpu7.field52 9", "gpu7.processes 3")
    told = seen(collector)
    assert told['imgnode_gpu_utilization_ratio{gpu="0"}'] == pytest.approx(0.87)
    assert told['imgnode_gpu_memory_used_bytes{gpu="0"}'] == 72 << 30
    assert told['imgnode_gpu_memory_total_bytes{gpu="0"}'] == 80 << 30
    assert told['imgnode_gpu_temperature_celsius{gpu="0"}'] == 34
    assert told['imgnode_gpu_memory_temperature_celsius{gpu="0"}'] == 62
    assert told['imgnode_gpu_power_watts{gpu="0"}'] == 62
    assert told['imgnode_gpu_energy_joules_total{gpu="0"}'] == pytest.approx(123456.789)
    assert told['imgnode_gpu_clock_hertz{gpu="0",clock="sm"}'] == 1.41e9
    assert told['imgnode_gpu_throttled{gpu="3",reason="thermal_hardware"}'] == 1
    assert told['imgnode_gpu_throttled{gpu="0",reason="thermal_hardware"}'] == 0
    assert told['imgnode_gpu_ecc_errors_total{gpu="4",type="uncorrected"}'] == 2
    assert told['imgnode_gpu_remapped_rows_total{gpu="5",type="uncorrected"}'] == 1
    assert told['imgnode_gpu_pcie_replays_total{gpu="6"}'] == 7
    assert told['imgnode_gpu_nvlink_errors_total{gpu="7",type="replay"}'] == 9
    assert told['imgnode_gpu_processes{gpu="7"}'] == 3
    about = (
        'gpu="1",uuid="GPU-00000001-0000-0000-0000-000000000000",name="NVIDIA A100-SXM4-80GB",'
        'address="0000:11:00.0",driver="535.309.01"'
    )
    assert told[f"imgnode_gpu_info{{{about}}}"] == 1
    assert {name.partition("{")[0] for name in told} == set(GPU)


def test_the_child_goes_on(node: Machine, collector: GpuCollector) -> None:
    assert seen(collector)['imgnode_gpu_temperature_celsius{gpu="0"}'] == 34
    node.say("temperature 71")
    ends = time.monotonic() + MOMENT_S
    while 'celsius{gpu="0"} 71' not in collector.text and time.monotonic() < ends:
        collector.collect(time.monotonic() + 0.1)
    assert 'celsius{gpu="0"} 71' in collector.text


def test_the_driver_is_taken_up_once(node: Machine, collector: GpuCollector) -> None:
    assert seen(collector)
    node.say("fail.nvmlInitWithFlags 999")
    collector.text = ""
    assert seen(collector)


def test_a_driver_that_comes_up_later_is_taken_up(node: Machine, collector: GpuCollector) -> None:
    node.say("fail.nvmlInitWithFlags 9")
    collector.collect(time.monotonic() + 1)
    assert collector.text == ""
    node.say("fail.nvmlInitWithFlags 0")
    assert seen(collector)


def test_a_lost_gpu_costs_no_other(node: Machine, collector: GpuCollector) -> None:
    node.say("gpu3.fail 15")
    told = seen(collector)
    assert told['imgnode_gpu_lost{gpu="3"}'] == 1
    assert told['imgnode_gpu_lost{gpu="2"}'] == 0
    assert 'imgnode_gpu_temperature_celsius{gpu="3"}' not in told
    assert 'imgnode_gpu_temperature_celsius{gpu="4"}' in told


def test_what_a_board_does_not_have_has_no_sample(node: Machine, collector: GpuCollector) -> None:
    node.say("ecc 0", "mig 1")
    told = seen(collector)
    for name in ("imgnode_gpu_ecc_errors_total", "imgnode_gpu_utilization_ratio"):
        assert not any(one.startswith(name) for one in told)


def test_a_hung_driver_shows_nothing_and_is_asked_again(
    node: Machine, collector: GpuCollector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gpu, "SILENT_S", 1.0)
    monkeypatch.setattr(gpu, "AGAIN_S", 0.1)
    assert seen(collector)
    node.say("gpu5.hang.nvmlDeviceGetTemperature 600")
    wait(collector, shows=False)
    node.say("gpu5.hang.nvmlDeviceGetTemperature 0")
    assert seen(collector)


def test_a_driver_that_is_not_there_shows_nothing(
    node: Machine, collector: GpuCollector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LD_LIBRARY_PATH", os.fspath(node.root))
    for _ in range(3):
        collector.collect(time.monotonic() + 0.2)
    assert collector.text == ""


@pytest.mark.parametrize("words", ["echo '{}'; exec sleep 99", "echo no; exec sleep 99", "exit 3"])
def test_a_child_that_talks_nonsense_shows_nothing(
    words: str, collector: GpuCollector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gpu, "CHILD", ("sh", "-c", words))
    collector.text = "of before"
    wait(collector, shows=False)


def test_a_program_that_is_not_there_is_no_fault(
    collector: GpuCollector, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(gpu, "CHILD", (str(tmp_path / "sh"),))
    collector.collect(time.monotonic() + 0.2)
    assert collector.text == ""


def test_each_declared_metric_has_a_head_of_the_right_type() -> None:
    text = as_text([{"index": 0, "energy": 1, "power": 1000}], None)
    assert "# TYPE imgnode_gpu_energy_joules_total counter\n" in text
    assert "# TYPE imgnode_gpu_power_watts gauge\n" in text
