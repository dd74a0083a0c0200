"""Which GPUs go together, and what lies next to them."""

from __future__ import annotations

from pathlib import Path

import pytest

from imgnode.gpu import check
from imgnode.gpu.inventory import Device, Link, MigDevice
from imgnode.gpu.placement import NoPlace, Placement, choose, place, place_mig
from tests.unit.gpu_node import Machine, gpu, inventory
from tests.unit.serve_node import put

PAIRED = [(0, 5), (1, 4), (2, 7), (3, 6)]  # bridges between GPUs that are not neighbours


def joined(*pairs: tuple[int, int], count: int = 8, links: int = 4) -> list[Device]:
    """Return GPUs of which some are joined directly."""
    to: dict[int, list[Link]] = {index: [] for index in range(count)}
    for one, other in pairs:
        to[one] += [Link(active=True, remote=f"0000:{other:02x}:00.0")] * links
        to[other] += [Link(active=True, remote=f"0000:{one:02x}:00.0")] * links
    return [gpu(index, links=tuple(to[index])) for index in range(count)]


def test_all_gpus_get_the_whole_machine() -> None:
    placed = place(inventory(), 8)
    assert placed.gpus == tuple(range(8))
    assert (placed.cpus, placed.nodes) == (None, None)
    assert placed.uuids == tuple(f"GPU-{index}" for index in range(8))
    assert placed.files[7] == "/dev/nvidia7"


def test_behind_switches_one_memory_node_is_enough() -> None:
    assert place(inventory(), 4) == Placement(
        gpus=(0, 1, 2, 3),
        cpus="0-31,64-95",
        nodes="0",
        uuids=("GPU-0", "GPU-1", "GPU-2", "GPU-3"),
        files=("/dev/nvidia0", "/dev/nvidia1", "/dev/nvidia2", "/dev/nvidia3"),
    )


def test_links_count_more_than_memory_nodes() -> None:
    """GPU 0 and 5 are bridged, on different nodes."""
    placed = place(inventory(*joined(*PAIRED)), 2)
    assert placed.gpus == (0, 5)
    assert (placed.cpus, placed.nodes) == ("0-31,64-95,32-63,96-127", "0,1")


def test_a_link_that_is_down_joins_nothing() -> None:
    gpus = joined((0, 1), (2, 3), count=4)
    down = tuple(Link(active=False, remote=one.remote) for one in gpus[0].links)
    gpus[0] = gpu(0, links=down)
    assert place(inventory(*gpus), 2).gpus == (2, 3)


def test_a_complete_group_beats_one_with_more_links() -> None:
    """0-1-2 is a chain with strong links, 3-4-5 a triangle: every pair must talk."""
    gpus = joined((0, 1), (1, 2), count=6, links=12)
    triangle = joined((3, 4), (4, 5), (3, 5), count=6, links=2)
    assert place(inventory(*gpus[:3], *triangle[3:]), 3).gpus == (3, 4, 5)


def test_groups_of_a_pipeline_stay_together() -> None:
    assert place(inventory(*joined(*PAIRED)), 2, 2).gpus == (0, 5, 1, 4)


def test_without_links_one_memory_node_then_the_lowest() -> None:
    spread = [
        gpu(n, links=(), numa_node=n % 2, cpus=f"{n % 2 * 8}-{n % 2 * 8 + 7}") for n in range(8)
    ]
    placed = place(inventory(*spread), 3)
    assert (placed.gpus, placed.cpus, placed.nodes) == ((0, 2, 4), "0-7", "0")
    assert place(inventory(*(gpu(n, links=(), numa_node=None) for n in range(4))), 2).gpus == (0, 1)


@pytest.mark.parametrize("unknown", [{"numa_node": None}, {"cpus": None}])
def test_firmware_that_says_nothing_pins_nothing(unknown: dict[str, None]) -> None:
    placed = place(inventory(gpu(0, **unknown), gpu(1)), 1)
    assert (placed.gpus, placed.cpus, placed.nodes) == ((0,), None, None)


def test_lost_gpus_are_left_out() -> None:
    gpus = [gpu(n, lost="GPU is lost" if n == 1 else None) for n in range(4)]
    assert place(inventory(*gpus), 3).gpus == (0, 2, 3)
    with pytest.raises(NoPlace, match="4 GPUs are asked for, 3 answer"):
        place(inventory(*gpus), 4)


def test_more_gpus_than_can_be_compared_go_by_index() -> None:
    assert place(inventory(*(gpu(n) for n in range(64))), 32).gpus == tuple(range(32))


def test_processors_in_order_of_number() -> None:
    gpus = [gpu(0, cpus="16-23", numa_node=1), gpu(1, cpus="8", numa_node=0), gpu(2, numa_node=2)]
    assert place(inventory(*gpus), 2).cpus == "8,16-23"


def test_a_mig_device(tmp_path: Path) -> None:
    parts = (MigDevice("MIG-a", "3g.40gb", 1, 0), MigDevice("MIG-b", "3g.40gb", 2, 0))
    split = inventory(gpu(0, lost="x"), gpu(1, minor=5, mig=True, mig_devices=parts))
    bare = place_mig(split, 1, tmp_path)
    assert bare == Placement((1,), "0-31,64-95", "0", ("MIG-a",), ("/dev/nvidia5",))
    put(
        tmp_path / "proc/driver/nvidia-caps/mig-minors",
        "config 1\nmonitor 2\ngpu5/gi1/access 12\ngpu5/gi1/ci0/access 13\ngpu5/gi2/access 21\n",
    )
    caps = ("/dev/nvidia-caps/nvidia-cap12", "/dev/nvidia-caps/nvidia-cap13")
    assert place_mig(split, 1, tmp_path).files == ("/dev/nvidia5", *caps)
    with pytest.raises(NoPlace, match="tensor_parallel_size must be 1"):
        place_mig(split, 2, tmp_path)
    with pytest.raises(NoPlace, match="no MIG device"):
        place_mig(inventory(), 1, tmp_path)


def test_what_was_last_seen_decides(tmp_path: Path) -> None:
    node = Machine(tmp_path / "scenario", tmp_path)
    node.image()
    with pytest.raises(NoPlace, match="nobody has looked"):
        choose(tmp_path, 2)
    part = MigDevice("MIG-a", "3g.40gb", 1, 0)
    found = inventory(gpu(0, mig_devices=(part,)), gpu(1), gpu(2), gpu(3))
    put(tmp_path / check.FILE, {"inventory": found.as_dict()})
    assert choose(tmp_path, 2) == place(found, 2)
    assert choose(tmp_path, 1, 3).gpus == (0, 1, 2)
    node.image(mig={"profile": "3g.40gb", "count": 2})
    assert choose(tmp_path, 1).uuids == ("MIG-a",)
