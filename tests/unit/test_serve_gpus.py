"""What hands GPUs to the container: every combination of runtime, placement and MIG."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from imgnode.fault import CONFIG, HARDWARE, OF_THE_NODE, Fault
from imgnode.gpu.placement import Placement
from imgnode.process import Finished
from imgnode.serve import docker
from imgnode.serve.command import Launch, argv, gpus_used
from imgnode.serve.facts import DEVICES, NVIDIA, Facts, GpuFacts, Machine, ServeFacts, read_facts
from imgnode.serve.gpunodes import Node, Nodes
from imgnode.serve.gpus import Handed, arguments, check, image_variables, variables
from tests.unit.serve_node import MODEL, SERVE, make

GPUS = tuple(Node(f"/dev/nvidia{minor}", 195, minor) for minor in (2, 3, 0, 1))
CONTROL = (Node("/dev/nvidiactl", 195, 255), Node("/dev/nvidia-uvm", 511, 0))
CAPS = (Node("/dev/nvidia-caps/nvidia-cap2", 510, 2, 0o444),)
NODES = Nodes(GPUS, CONTROL, CAPS)
LIBRARIES = "--mount=type=bind,src=/usr/lib/imgnode/gpu,dst=/usr/local/nvidia,readonly"


def handed(runtime: str = DEVICES, instances: int = 0, **changes: Any) -> Handed:  # noqa: ANN401
    return Handed(**{"facts": GpuFacts(runtime, instances), "nodes": NODES, **changes})


def facts(gpus: int | None = 4, **serve: Any) -> Facts:  # noqa: ANN401
    return Facts(gpus, ServeFacts(**{**SERVE, **serve}), None, GpuFacts(DEVICES))


def devices(words: list[str]) -> list[str]:
    return [word.removeprefix("--device=") for word in words if word.startswith("--device=")]


def test_all_gpus_by_their_nodes() -> None:
    assert arguments(handed()) == [
        "--ulimit=memlock=-1:-1",
        "--device=/dev/nvidia2",
        "--device=/dev/nvidia3",
        "--device=/dev/nvidia0",
        "--device=/dev/nvidia1",
        "--device=/dev/nvidiactl",
        "--device=/dev/nvidia-uvm",
        LIBRARIES,
    ]
    assert variables(handed(), {}) == {
        "CUDA_DEVICE_ORDER": "PCI_BUS_ID",
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        ":/usr/local/nvidia/bin",
        "LD_LIBRARY_PATH": "/usr/local/nvidia/lib64",
    }


def test_nvidias_runtime_brings_the_libraries_and_nodes_are_named_all_the_same() -> None:
    words = arguments(handed(NVIDIA))
    assert words[0] == "--runtime=nvidia"
    assert words[1:] == [word for word in arguments(handed()) if word != LIBRARIES]
    assert variables(handed(NVIDIA), {}) == {
        "CUDA_DEVICE_ORDER": "PCI_BUS_ID",
        "NVIDIA_VISIBLE_DEVICES": "all",
        "NVIDIA_DRIVER_CAPABILITIES": "compute,utility",
    }


@pytest.mark.parametrize(
    ("order", "nodes", "toolkit", "cuda"),
    [
        ((0,), ["/dev/nvidia2"], "GPU-0", "0"),
        ((3, 1), ["/dev/nvidia3", "/dev/nvidia1"], "GPU-3,GPU-1", "1,0"),
        ((2, 3, 0), ["/dev/nvidia2", "/dev/nvidia0", "/dev/nvidia1"], "GPU-2,GPU-3,GPU-0", "1,2,0"),
    ],
)
def test_a_placement_hands_over_its_gpus_alone_in_its_order(
    order: tuple[int, ...], nodes: list[str], toolkit: str, cuda: str
) -> None:
    """An index is a place in PCI order, not the number in the node's name."""
    for runtime in (DEVICES, NVIDIA):
        one = handed(runtime, placement=Placement(order, uuids=tuple(f"GPU-{n}" for n in order)))
        assert devices(arguments(one)) == [*nodes, "/dev/nvidiactl", "/dev/nvidia-uvm"]
        assert variables(one, {})["CUDA_VISIBLE_DEVICES"] == cuda
    assert variables(one, {})["NVIDIA_VISIBLE_DEVICES"] == toolkit


def test_instances_of_mig_need_their_caps_and_no_order() -> None:
    caps = ("/dev/nvidia2", "/dev/nvidia-caps/nvidia-cap2")
    placed = Placement((0,), uuids=("MIG-1",), files=caps)
    other = Node("/dev/nvidia-caps/nvidia-cap3", 510, 3, 0o444)
    split = handed(NVIDIA, 2, placement=placed, nodes=Nodes(GPUS, CONTROL, (*CAPS, other)))
    assert devices(arguments(split)) == [caps[0], *(node.path for node in CONTROL), caps[1]]
    assert devices(arguments(handed(NVIDIA, 2)))[-1] == caps[1]
    found = variables(split, {})
    assert found["NVIDIA_VISIBLE_DEVICES"] == "MIG-1"
    assert "CUDA_VISIBLE_DEVICES" not in found


@pytest.mark.parametrize(
    ("own", "given", "path"),
    [
        ({}, {}, "/usr/local/nvidia/lib64"),
        ({"LD_LIBRARY_PATH": "/a:/b"}, {}, "/a:/b:/usr/local/nvidia/lib64"),
        ({"LD_LIBRARY_PATH": "/a"}, {"LD_LIBRARY_PATH": "/p"}, "/p:/usr/local/nvidia/lib64"),
        (
            {"LD_LIBRARY_PATH": "/usr/local/nvidia/lib:/usr/local/nvidia/lib64"},
            {},
            "/usr/local/nvidia/lib:/usr/local/nvidia/lib64",
        ),
        ({"LD_LIBRARY_PATH": ""}, {}, "/usr/local/nvidia/lib64"),
    ],
)
def test_what_the_image_searches_stays(
    own: dict[str, str], given: dict[str, str], path: str
) -> None:
    assert variables(handed(own=own), given)["LD_LIBRARY_PATH"] == path


def test_the_images_own_programs_come_first() -> None:
    found = variables(handed(own={"PATH": "/opt/bin:/bin"}), {})
    assert found["PATH"] == "/opt/bin:/bin:/usr/local/nvidia/bin"


def test_variables_of_an_image() -> None:
    config = {"config": {"Env": ["A=1", "B=x=y", "odd"]}}
    assert image_variables(json.dumps(config)) == {"A": "1", "B": "x=y"}
    for empty in ({}, {"config": None}, {"config": {"Env": None}}):
        assert image_variables(json.dumps(empty)) == {}


@pytest.mark.parametrize(
    ("nodes", "placement", "fact"),
    [
        (Nodes(), None, "no GPU: /dev/nvidia0 is missing (hint: imgnode gpu show)"),
        (Nodes((), CONTROL), None, "no GPU: /dev/nvidia0 is missing"),
        (Nodes(GPUS, CONTROL[1:]), None, "no GPU: /dev/nvidiactl is missing"),
        (Nodes(GPUS, CONTROL[:1]), None, "no GPU: /dev/nvidia-uvm is missing"),
        (Nodes(GPUS[:2], CONTROL), Placement((0, 2)), "no GPU 2: the driver has 2"),
        (
            Nodes((Node("/dev/nvidia0", 195, 0, 0o660),), CONTROL),
            None,
            "/dev/nvidia0 is not open to the server (mode 0660)",
        ),
    ],
)
def test_missing_gpus_are_the_nodes_own_fault(
    nodes: Nodes, placement: Placement | None, fact: str
) -> None:
    with pytest.raises(Fault) as caught:
        check(handed(nodes=nodes, placement=placement), facts(), 1)
    assert fact in str(caught.value)
    assert caught.value.kind == HARDWARE
    assert HARDWARE in OF_THE_NODE


def test_fewer_gpus_than_the_config_uses() -> None:
    """With a count in the profile the seed was judged by it: then one has gone."""
    two = handed(nodes=Nodes(GPUS[:2], CONTROL))
    for count, kind in ((4, HARDWARE), (None, CONFIG)):
        with pytest.raises(Fault, match="4 GPUs are wanted, there are 2") as caught:
            check(two, facts(count), 4)
        assert caught.value.kind == kind
    check(two, facts(), 2)
    check(handed(instances=7, nodes=Nodes(GPUS[:1], CONTROL, CAPS)), facts(), 1)
    check(handed(), facts(), 4)


def test_gpus_that_a_config_uses() -> None:
    assert gpus_used(facts(), {}) == 1
    assert gpus_used(facts(), {"tensor_parallel_size": 4, "pipeline_parallel_size": 2}) == 8
    profile = facts(args={"tensor-parallel-size": 4})
    assert gpus_used(profile, {}) == 4
    assert gpus_used(profile, {"tensor_parallel_size": 2}) == 2


def words_of(gpus: Handed | None, **serve: Any) -> list[str]:  # noqa: ANN401
    machine = Machine(10 << 30, 8)
    folders = Path("/weights"), Path("/cache")
    return argv(Launch(facts(**serve), machine, "image@sha256:0", {"model": MODEL}, *folders, gpus))


def test_the_processors_next_to_the_gpus() -> None:
    parent = "--cgroup-parent=imgnode-vllm.slice"
    for placement, expected in (
        (Placement((0,), "0-3,8-11", "0"), [parent]),
        (Placement((0,), "0-3", None), [parent]),
        (Placement((0,), None, "1"), ["--cpus=7", parent]),
        (Placement((0,)), ["--cpus=7"]),
        (None, ["--cpus=7"]),
    ):
        words = words_of(handed(placement=placement))
        assert [word for word in words if word.startswith(("--cpu", "--cgroup"))] == expected


@pytest.mark.parametrize(
    ("placement", "words"),
    [
        (Placement((0,), "48-95", "1"), ["AllowedCPUs=48-95", "AllowedMemoryNodes=1"]),
        (Placement((0,)), ["AllowedCPUs=", "AllowedMemoryNodes="]),
    ],
)
def test_the_slice_is_bound_or_let_go(
    monkeypatch: pytest.MonkeyPatch, placement: Placement, words: list[str]
) -> None:
    asked: list[list[str]] = []
    answers = [Finished(0, "", ""), Finished(1, "", "no such\nprocessor")]

    def run(argv: list[str], **_: object) -> Finished:
        asked.append(argv)
        return answers.pop(0)

    monkeypatch.setattr(docker, "run", run)
    docker.bind(placement)
    assert asked == [["systemctl", "set-property", "--runtime", "imgnode-vllm.slice", *words]]
    with pytest.raises(Fault, match="cannot bind imgnode-vllm.slice .*: no such processor"):
        docker.bind(placement)


def test_a_profile_cannot_take_the_driver_away() -> None:
    env = {"LD_LIBRARY_PATH": "/mine", "CUDA_DEVICE_ORDER": "FASTEST_FIRST", "NCCL_DEBUG": "INFO"}
    words = words_of(handed(), env=env)
    assert "--env=LD_LIBRARY_PATH=/mine:/usr/local/nvidia/lib64" in words
    assert "--env=CUDA_DEVICE_ORDER=PCI_BUS_ID" in words
    assert "--env=NCCL_DEBUG=INFO" in words
    assert len([word for word in words if word.startswith("--env=LD_LIBRARY_PATH")]) == 1


def test_without_gpus_nothing_is_added() -> None:
    text = " ".join(words_of(None))
    assert not [word for word in ("device", "nvidia", "memlock", "CUDA") if word in text]


def test_facts_of_an_image(tmp_path: Path) -> None:
    assert read_facts(make(tmp_path)).gpu is None
    for mig, instances in ((None, 0), ({"profile": "3g.40gb", "count": 2}, 2)):
        root = make(tmp_path, gpu={"mig": mig}, gpu_runtime="nvidia")
        assert read_facts(root).gpu == GpuFacts(NVIDIA, instances)
    with pytest.raises(ValueError, match="image.json"):
        read_facts(make(tmp_path, gpu={"mig": None}))
