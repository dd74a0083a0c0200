"""A start on a node with GPUs: what it needs of them, and what it tells when they are not there."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from imgnode.fault import HARDWARE
from imgnode.gpu import nodes as gpu_nodes
from imgnode.gpu.placement import Placement
from imgnode.serve import choice, docker, gpunodes, runner
from imgnode.serve.gpunodes import Node, Nodes
from imgnode.serve.gpus import Handed
from imgnode.serve.plan import Plan, find_gpus
from tests.unit import test_serve_runner
from tests.unit.serve_node import make, told
from tests.unit.test_serve_runner import GOOD, Stage, fails

stage = test_serve_runner.stage


def on_gpus(stage: Stage, monkeypatch: pytest.MonkeyPatch, found: Nodes) -> None:
    """Have the image be one for GPUs, with these nodes on the machine."""
    make(stage.root, gpu={"mig": None}, gpu_runtime="devices", gpus=2)
    (stage.root / "dev").mkdir()
    monkeypatch.setattr(gpunodes, "look", lambda _: found)


def test_a_missing_gpu_is_told_at_once_and_costs_the_config_nothing(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    on_gpus(stage, monkeypatch, Nodes())
    monkeypatch.setattr(runner, "provide", lambda *_: pytest.fail("it fetches in vain"))
    assert runner.serve(stage.root) == 1
    text = "no GPU: /dev/nvidia0 is missing (hint: imgnode gpu show)"
    assert told(stage.root)["error"] == {"kind": HARDWARE, "text": text}
    assert stage.notified[-1] == f"STATUS=failed (hardware): {text}"
    assert choice.load_attempt(GOOD, stage.root).count == 0
    assert stage.log == []


def test_gpus_are_linked_for_systemd_before_the_container_starts(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    gpus = (Node("/dev/nvidia0", 195, 0), Node("/dev/nvidia1", 195, 1))
    control = (Node("/dev/nvidiactl", 195, 255), Node("/dev/nvidia-uvm", 511, 0))
    on_gpus(stage, monkeypatch, Nodes(gpus, control))
    linked: list[Path] = []
    monkeypatch.setattr(gpu_nodes, "link", linked.append)
    assert fails(stage, [None, runner.Stopped()]) == 0
    assert {"--device=/dev/nvidia0", "--device=/dev/nvidia-uvm"} <= set(stage.words)
    assert linked == [stage.root]


def test_a_placement_binds_the_slice_before_the_container_starts(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    control = (Node("/dev/nvidiactl", 195, 255), Node("/dev/nvidia-uvm", 511, 0))
    on_gpus(stage, monkeypatch, Nodes((Node("/dev/nvidia0", 195, 0),), control))
    genuine, near = find_gpus, Placement((0,), "48-95", "1")

    def placed(plan: Plan, root: Path) -> Handed | None:
        handed = genuine(plan, root)
        return handed and dataclasses.replace(handed, placement=near)

    monkeypatch.setattr(runner, "find_gpus", placed)
    monkeypatch.setattr(docker, "bind", lambda given: stage.log.append(f"bind {given.cpus}"))
    assert fails(stage, [None, runner.Stopped()]) == 0
    assert stage.log[:4] == ["bind 48-95", "remove", "network", "start"]
    assert "--cgroup-parent=imgnode-vllm.slice" in stage.words
