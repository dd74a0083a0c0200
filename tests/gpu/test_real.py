"""A real driver answers as the fake one does. Its answer is recorded for the unit tests."""

from __future__ import annotations

import platform
from datetime import UTC, datetime

import pytest

from imgnode.gpu.compare import compare
from imgnode.gpu.inventory import Inventory, State, take
from imgnode.gpu.profile import GpuProfile
from tests.gpu.captures import load, record

pytestmark = pytest.mark.gpu


@pytest.fixture(scope="module")
def found() -> Inventory:
    answer = take(limit_s=150)
    if answer.state in {State.NO_LIBRARY, State.NO_DRIVER} and not answer.pci:
        pytest.skip(f"no GPU here: {answer.state}")
    return answer


def test_the_driver_answers(found: Inventory) -> None:
    assert found.state is State.OK, found.detail
    assert found.count == len(found.devices) >= 1


def test_every_gpu_says_who_it_is(found: Inventory) -> None:
    for one in found.usable:
        known = (one.name, one.uuid, one.address, one.memory, one.temperature, one.power)
        assert None not in known, one
        assert not one.errors, one


def test_the_kernel_knows_the_same_gpus(found: Inventory) -> None:
    """In a container /sys may be hidden: then there is nothing to compare with."""
    if found.pci:
        assert {one.address for one in found.usable} <= set(found.pci)


def test_a_sound_machine_has_no_faults(found: Inventory) -> None:
    names = tuple({one.name for one in found.usable if one.name})
    profile = GpuProfile("this", names=names, count=len(found.devices), persistence=False)
    assert compare(profile, found, fabric=None).faults == ()


def test_it_is_recorded(found: Inventory) -> None:
    origin = {
        "date": datetime.now(UTC).date().isoformat(),
        "kernel": platform.release(),
        "by": "make test-gpu",
    }
    assert load(record(found, origin)).inventory.driver == found.driver
