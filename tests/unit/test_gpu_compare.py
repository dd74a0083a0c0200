"""What counts as a fault, what as a warning, and what a person is told."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from imgnode.gpu.check import HARDWARE, IMAGE, whose
from imgnode.gpu.compare import FAULTS, WARNINGS, compare, key_of
from imgnode.gpu.inventory import Inventory, Link, MigDevice, State
from imgnode.gpu.profile import GpuProfile, MigLayout
from imgnode.problems import Problem
from tests.unit.gpu_node import A100, gpu, inventory

HALF = MigLayout("3g.40gb", 2)
DOWN = tuple(Link(active=number > 1, remote="switch") for number in range(12))


def judge(
    found: Inventory, profile: GpuProfile = A100, *, fabric: bool | None = None
) -> tuple[list[str], list[str]]:
    """Return faults and warnings as people read them."""
    verdict = compare(profile, found, fabric=fabric)
    assert all(key_of(one) in FAULTS and one.hint for one in verdict.faults)
    assert all(key_of(one) in WARNINGS and one.hint for one in verdict.warnings)
    return [told(one) for one in verdict.faults], [told(one) for one in verdict.warnings]


def told(problem: Problem) -> str:
    return f"{problem.key}: {problem.fact}"


def ill(index: int = 3, **changes: Any) -> Inventory:  # noqa: ANN401 - any value of a GPU
    """Return eight GPUs of which one is not as it should be."""
    gpus = [gpu(number, **(changes if number == index else {})) for number in range(8)]
    return inventory(*gpus)


def mig(*profiles: str) -> dict[str, Any]:
    parts = tuple(MigDevice(f"MIG-{n}", one, n + 1, 0) for n, one in enumerate(profiles))
    return {"mig": True, "mig_pending": True, "mig_devices": parts}


def test_eight_sound_gpus() -> None:
    assert judge(inventory()) == ([], [])
    assert judge(inventory(), replace(A100, fabric_manager=True), fabric=True) == ([], [])


@pytest.mark.parametrize(
    ("changes", "fact"),
    [
        ({"lost": "GPU is lost"}, "gpu.3.lost: GPU 3 (0000:03:00.0): GPU is lost"),
        (
            {"name": "NVIDIA L40S"},
            "gpu.3.name: GPU 3 (0000:03:00.0): is an NVIDIA L40S, expected A100-SXM4-80GB",
        ),
        (
            {"memory": 40 << 30},
            "gpu.3.memory: GPU 3 (0000:03:00.0): has 40.0 GiB of memory, expected 80.0 GiB",
        ),
        ({"links": DOWN}, "gpu.3.nvlink: GPU 3 (0000:03:00.0): 10 of 12 NVLinks are up"),
        ({"links": ()}, "gpu.3.nvlink: GPU 3 (0000:03:00.0): 0 of 12 NVLinks are up"),
        (
            {"ecc_volatile": 2},
            "gpu.3.ecc_errors: GPU 3 (0000:03:00.0): "
            "2 uncorrected memory errors since the driver came up",
        ),
        (
            {"remap_failed": True},
            "gpu.3.rows_failed: GPU 3 (0000:03:00.0): bad memory rows are used up",
        ),
        (mig("3g.40gb"), "gpu.3.mig: GPU 3 (0000:03:00.0): MIG is on, expected off"),
    ],
)
def test_faults(changes: dict[str, Any], fact: str) -> None:
    assert judge(ill(**changes)) == ([fact], [])


@pytest.mark.parametrize(
    ("changes", "fact"),
    [
        (
            {"remap_pending": True},
            "gpu.3.rows_pending: GPU 3 (0000:03:00.0): "
            "bad memory rows are replaced at the next reset",
        ),
        (
            {"slowdown": ("hardware", "power brake"), "temperature": 88},
            "gpu.3.slowdown: GPU 3 (0000:03:00.0): slowed down: hardware, power brake; 88 °C",
        ),
        ({"pcie_width": 8}, "gpu.3.pcie: GPU 3 (0000:03:00.0): PCIe runs at x8 of x16"),
        (
            {"persistence": False, "power_limit": 300.0},
            "gpu.3.settings: GPU 3 (0000:03:00.0): persistence is off, expected on; "
            "power limit is 300 W, expected 400 W",
        ),
    ],
)
def test_warnings_leave_a_node_fit(changes: dict[str, Any], fact: str) -> None:
    assert judge(ill(**changes), replace(A100, power_limit_w=400)) == ([], [fact])


def test_what_is_not_known_is_not_held_against_a_gpu() -> None:
    keys = (
        "name", "memory", "pcie_width", "ecc", "ecc_pending", "ecc_volatile", "remap_pending",
        "remap_failed", "persistence", "power_limit", "mig", "mig_pending",
    )  # fmt: skip
    unknown = inventory(*(gpu(index, **dict.fromkeys(keys)) for index in range(8)))
    assert judge(unknown, replace(A100, ecc=True, power_limit_w=300)) == ([], [])


def test_ecc_counts_only_where_the_profile_says() -> None:
    off = ill(ecc=False, ecc_pending=False)
    assert judge(off) == ([], [])
    verdict = compare(replace(A100, ecc=True), off, fabric=None)
    assert [told(one) for one in verdict.faults] == [
        "gpu.3.ecc: GPU 3 (0000:03:00.0): ECC is off, expected on"
    ]
    assert verdict.faults[0].hint == "sudo nvidia-smi -i 3 -e 1, then reboot"
    pending = compare(replace(A100, ecc=True), ill(ecc=False, ecc_pending=True), fabric=None)
    assert pending.faults[0].hint == "it changes at the next reboot: reboot"


def test_memory_has_some_slack() -> None:
    """An H100 of 80 GB has 81559 MiB, an L40S with ECC 46068 MiB of 45 GiB."""
    assert judge(ill(memory=81559 << 20)) == ([], [])
    assert judge(ill(memory=71 << 30))[0]


@pytest.mark.parametrize(
    ("have", "bus", "hint"),
    [(0, 0, "wrong image"), (7, 7, "off and on"), (7, 8, "why the driver leaves the others")],
)
def test_fewer_than_expected(have: int, bus: int, hint: str) -> None:
    gpus = tuple(gpu(index) for index in range(have))
    found = Inventory(
        State.OK, driver=A100.driver_version, count=have, devices=gpus, pci=("x",) * bus
    )
    (fault,) = compare(A100, found, fabric=None).faults
    assert fault.fact == f"expected 8 x A100-SXM4-80GB, found {have} ({bus} on the PCI bus)"
    assert hint in (fault.hint or "")
    assert whose(fault) == HARDWARE


def test_a_profile_for_any_number_wants_at_least_one() -> None:
    multi = GpuProfile("any")
    assert judge(inventory(gpu(0)), multi) == ([], [])
    none = inventory(count=0, devices=(), pci=())
    assert judge(none, multi)[0] == [
        "gpu.count: expected at least 1 GPU, found 0 (0 on the PCI bus)"
    ]


@pytest.mark.parametrize(
    ("state", "pci", "key", "blame"),
    [
        (State.NO_BINDING, 8, "gpu.library", IMAGE),
        (State.NO_LIBRARY, 8, "gpu.library", IMAGE),
        (State.NO_DRIVER, 8, "gpu.driver", IMAGE),
        (State.NO_DRIVER, 0, "gpu.count", HARDWARE),
        (State.MISMATCH, 8, "gpu.driver", IMAGE),
        (State.HANGS, 8, "gpu.hang", HARDWARE),
        (State.FAILED, 8, "gpu.nvml", HARDWARE),
    ],
)
def test_a_driver_that_says_nothing(state: State, pci: int, key: str, blame: str) -> None:
    found = Inventory(state, "its own words", pci=("x",) * pci)
    (fault,) = compare(A100, found, fabric=None).faults
    assert (fault.key, whose(fault)) == (key, blame)


def test_a_hang_says_where() -> None:
    found = inventory(gpu(0), gpu(1), state=State.HANGS, detail="no answer within 45 s", count=8)
    assert judge(found)[0] == [
        "gpu.hang: the driver does not answer: no answer within 45 s, at GPU 2 of 8; "
        "2 GPUs on the PCI bus"
    ]


def test_another_driver_than_the_images() -> None:
    found = inventory(driver="535.261.03")
    (fault,) = compare(A100, found, fabric=None).faults
    assert fault.fact == "driver 535.261.03 runs, this image was built with 535.309.01"
    assert whose(fault) == IMAGE
    assert judge(found, replace(A100, driver_version=None)) == ([], [])


def test_the_fabric_manager() -> None:
    switched = replace(A100, fabric_manager=True)
    assert judge(inventory(), switched, fabric=False)[0] == [
        "gpu.fabric_manager: the fabric manager of the NVSwitches is down"
    ]


def test_links_without_switches_are_compared_with_the_neighbours() -> None:
    """A bridge may leave links unused; behind switches all must be up."""
    bridged = inventory(gpu(0, links=DOWN), gpu(1, links=DOWN))
    pair = replace(A100, count=2)
    assert judge(bridged, pair) == ([], [])
    assert len(judge(bridged, replace(pair, fabric_manager=True), fabric=True)[0]) == 2
    none = inventory(gpu(0, links=()), gpu(1, links=()))
    assert judge(none, pair)[0][0].endswith("0 of 1 NVLinks are up")
    assert judge(none, replace(pair, nvlink=False)) == ([], [])


@pytest.mark.parametrize(
    ("have", "fact"),
    [
        (mig("3g.40gb", "3g.40gb"), None),
        (mig("3g.40gb"), "split into 3g.40gb; expected 2 x 3g.40gb"),
        (mig("2g.20gb", "3g.40gb"), "split into 2g.20gb, 3g.40gb; expected 2 x 3g.40gb"),
        (mig(), "split into no instances; expected 2 x 3g.40gb"),
        ({"mig": False}, "MIG is off, expected on"),
        ({"mig": None, "mig_pending": None}, "MIG is not to be had on this board, expected on"),
    ],
)
def test_mig(have: dict[str, Any], fact: str | None) -> None:
    gpus = inventory(gpu(0, links=(), **have))
    wanted = [] if fact is None else [f"gpu.0.mig: GPU 0 (0000:00:00.0): {fact}"]
    assert judge(gpus, replace(A100, count=1, mig=HALF)) == (wanted, [])
