"""What pynvml says of a library that behaves like NVIDIA's, in sickness and in health."""

from __future__ import annotations

import fcntl
import json
import sys
import time
from pathlib import Path

import pytest

from imgnode.gpu import __main__ as child
from imgnode.gpu import inventory as inventory_module
from imgnode.gpu import nvml
from imgnode.gpu.inventory import Inventory, Link, MigDevice, State, from_dict, take
from imgnode.process import Finished
from tests.unit.gpu_node import Machine, build, machine

PYTHON = Path(sys.executable).name
pytestmark = pytest.mark.allow_commands(PYTHON, "cc")
OLD = (  # what a driver of some years ago does not have
    "nvmlDeviceGetRemappedRows",
    "nvmlDeviceGetMigMode",
    "nvmlDeviceGetComputeRunningProcesses_v3",
)


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("nvml"))


@pytest.fixture
def node(library: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    return machine(library, tmp_path, monkeypatch)


def test_eight_sound_gpus(node: Machine) -> None:
    node.bus("0000:10:00.0", "0000:11:00.0", node=1, cpus="8-15,24-31")
    found = take(node.root)
    assert (found.state, found.driver, found.cuda) == (State.OK, "535.309.01", "12.2")
    assert [one.index for one in found.devices] == list(range(8))
    assert found.pci == ("0000:10:00.0", "0000:11:00.0")
    one = found.devices[1]
    assert (one.name, one.address, one.minor) == ("NVIDIA A100-SXM4-80GB", "0000:11:00.0", 1)
    assert (one.device_id, one.memory, one.temperature) == ("10de:20b2", 80 << 30, 34)
    assert (one.power, one.power_limit, one.persistence) == (62.0, 400.0, True)
    assert (one.pcie_width, one.pcie_width_max, one.pcie_gen_max) == (16, 16, 4)
    assert one.links == (Link(active=True, remote="switch"),) * 12
    assert (one.ecc, one.ecc_volatile, one.remap_failed, one.mig) == (True, 0, False, False)
    assert (one.numa_node, one.cpus) == (1, "8-15,24-31")
    assert (one.slowdown, one.errors, one.lost) == ((), {}, None)


def test_it_survives_json(node: Machine) -> None:
    node.say("gpu1.mig 1", "gpu1.mig0 3g.40gb", "gpu2.fail 15", "slowdown 0x48")
    found = take(node.root)
    assert from_dict(json.loads(json.dumps(found.as_dict()))) == found


def test_what_is_ill_is_seen(node: Machine) -> None:
    node.say(
        "gpu0.uncorrected.volatile 3", "gpu0.uncorrected.aggregate 7", "gpu0.corrected.volatile 9",
        "gpu1.rows_pending 1", "gpu1.rows_uncorrectable 2", "gpu2.rows_failed 1",
        "gpu3.slowdown 0x49", "gpu3.temperature 91", "gpu4.links_down 2", "gpu5.pcie_width 8",
        "gpu6.ecc 0", "gpu6.ecc_pending 1", "gpu7.processes 2",
    )  # fmt: skip
    gpus = take(node.root).devices
    assert (gpus[0].ecc_volatile, gpus[0].ecc_aggregate, gpus[0].ecc_corrected) == (3, 7, 9)
    assert (gpus[1].remap_pending, gpus[1].remapped_uncorrectable) == (True, 2)
    assert (gpus[1].remap_failed, gpus[2].remap_failed) == (False, True)
    assert gpus[3].slowdown == ("hardware", "temperature (hardware)")
    assert (gpus[4].links_active, len(gpus[4].links)) == (10, 12)
    assert (gpus[5].pcie_width, gpus[5].pcie_width_max) == (8, 16)
    assert (gpus[6].ecc, gpus[6].ecc_pending, gpus[6].ecc_volatile) == (False, True, None)
    assert (gpus[7].processes, gpus[0].processes) == (2, 0)


def test_gpus_that_see_each_other(node: Machine) -> None:
    node.say("count 2", "links 4", "gpu0.peer 1", "gpu1.peer 0")
    gpus = take(node.root).devices
    assert [link.remote for link in gpus[0].links] == ["0000:11:00.0"] * 4
    assert [link.remote for link in gpus[1].links] == ["0000:10:00.0"] * 4


def test_mig(node: Machine) -> None:
    node.say("count 1", "mig 1", "mig0 3g.40gb", "mig2 1g.10gb+me")
    one = take(node.root).devices[0]
    assert [(part.profile, part.gi, part.ci) for part in one.mig_devices] == [
        ("3g.40gb", 1, 0),
        ("1g.10gb+me", 3, 0),
    ]
    assert one.mig_devices[0] == MigDevice(
        "MIG-00000000-0000-0000-0000-000000000000", "3g.40gb", 1, 0
    )


@pytest.mark.parametrize("function", ["nvmlDeviceGetHandleByIndex_v2", "nvmlDeviceGetTemperature"])
def test_a_lost_gpu_costs_no_other(node: Machine, function: str) -> None:
    """Lost before, or while it is asked: what it has said before is kept."""
    node.say(f"gpu3.fail.{function} 15")
    found = take(node.root)
    assert found.state is State.OK
    assert [one.lost for one in found.devices] == [None] * 3 + ["GPU is lost"] + [None] * 4
    assert (found.devices[3].name is None) == (function == "nvmlDeviceGetHandleByIndex_v2")
    assert len(found.usable) == 7


def test_one_value_that_fails_costs_itself_alone(node: Machine) -> None:
    node.say("gpu2.fail.nvmlDeviceGetTemperature 999")
    gpus = take(node.root).devices
    assert (gpus[2].temperature, gpus[2].errors) == (None, {"temperature": "Unknown Error"})
    assert (gpus[2].lost, gpus[2].power, gpus[3].temperature) == (None, 62.0, 34)


def test_a_library_that_lacks_functions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    node = machine(build(tmp_path / "old", *OLD), tmp_path, monkeypatch)
    one = take(node.root).devices[0]
    assert (one.remap_failed, one.mig, one.processes) == (None, None, None)
    assert set(one.errors or {}) == {"rows", "mig_mode", "processes"}
    assert (one.name, one.ecc, len(one.links)) == ("NVIDIA A100-SXM4-80GB", True, 12)


def test_no_feature_is_no_error(node: Machine) -> None:
    """An L40S has neither links nor MIG."""
    lines = node.scenario.read_text().splitlines(keepends=True)
    node.scenario.write_text("".join(one for one in lines if not one.startswith(("links", "mig"))))
    one = take(node.root).devices[0]
    assert (one.links, one.mig, one.mig_devices, one.errors) == ((), None, (), {})


@pytest.mark.parametrize(
    ("line", "state", "detail"),
    [
        ("fail.nvmlInitWithFlags 9", State.NO_DRIVER, "Driver Not Loaded"),
        (
            "fail.nvmlInitWithFlags 18",
            State.MISMATCH,
            "RM has detected an NVML/RM version mismatch.",
        ),
        ("fail.nvmlInitWithFlags 999", State.FAILED, "Unknown Error"),
        ("fail.nvmlDeviceGetCount_v2 999", State.FAILED, "Unknown Error"),
        ("count 0", State.OK, ""),
    ],
)
def test_states_of_the_driver(node: Machine, line: str, state: State, detail: str) -> None:
    node.say(line)
    node.bus("0000:10:00.0")
    found = take(node.root)
    assert (found.state, found.detail, found.devices) == (state, detail, ())
    assert found.pci == ("0000:10:00.0",)


def test_no_library(node: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LD_LIBRARY_PATH", str(tmp_path))
    assert take(node.root).state is State.NO_LIBRARY


def test_no_binding(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nvml, "pynvml", None)
    assert list(nvml.inventory()) == [{"state": State.NO_BINDING}]


def test_a_driver_that_hangs(node: Machine) -> None:
    """What was said before is kept; nobody waits for the rest."""
    node.say("gpu2.hang.nvmlDeviceGetTemperature 60")
    began = time.monotonic()
    found = take(node.root, limit_s=1)
    assert time.monotonic() - began < 10
    assert (found.state, found.detail) == (State.HANGS, "no answer within 1 s")
    assert (found.driver, found.count, len(found.devices)) == ("535.309.01", 8, 2)


def test_a_driver_that_hangs_at_once(node: Machine) -> None:
    node.say("hang.nvmlInitWithFlags 60")
    assert take(node.root, limit_s=0.5) == Inventory(State.HANGS, "no answer within 0.5 s")


@pytest.mark.parametrize(
    ("told", "detail"),
    [
        (Finished(1, "", "Traceback\nMemoryError\n"), "MemoryError"),
        (Finished(-11, "", ""), "ended with -11"),
        (Finished(0, "Segmentation fault\n", ""), "JSONDecodeError: Expecting value: line 1"),
        (
            Finished(0, '{"state": "ok"}\n{"name": "x"}\n', ""),
            "TypeError: Device.__init__() missing",
        ),
    ],
)
def test_a_child_that_breaks(
    told: Finished, detail: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inventory_module, "run", lambda *_, **__: told)
    found = take(tmp_path)
    assert found.state is State.FAILED
    assert found.detail.startswith(detail)


def test_children_take_turns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that hangs keeps the others from the driver, where they could not be killed."""
    lock = tmp_path / "gpu.lock"
    monkeypatch.setattr(child, "_LOCK", lock)
    child._take_turn()
    with lock.open() as other, pytest.raises(BlockingIOError):
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
    monkeypatch.setattr(child, "_LOCK", tmp_path / "none/gpu.lock")
    child._take_turn()
