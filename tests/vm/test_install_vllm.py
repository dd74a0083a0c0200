"""From an empty disk to the real inference server: what is on one stick, and nothing else."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import yaml

from builder.core.process import Runner
from builder.vm.chat import ask
from builder.vm.qemu import API_PORT, Accel
from tests.vm.conftest import Record, note
from tests.vm.installing import GIB, VERSION, bench, blank, open_workshop, second
from tests.vm.test_serving import NODE_SEED, NODE_SIZE, QUESTION, judged, wait_serving

pytestmark = [pytest.mark.vm, pytest.mark.long, pytest.mark.timeout(2 * 3600)]
INSTALL_S = 3600.0


def test_a_stick_makes_a_node_whose_model_answers(
    runner: Runner, tmp_path: Path, accel: Accel, record_property: Record
) -> None:
    inference = yaml.safe_load(NODE_SEED)["inference"]
    del inference["api_key"]
    with open_workshop(runner, tmp_path / "versions", "cpu") as workshop:
        top = workshop.versions.place.top
        seed = workshop.seed("gpu-07", inference=inference)
        stick = workshop.stick(seed, "--then", "reboot")
        disk, memory = blank(top / "target.raw", 12 * GIB), NODE_SIZE.memory_mib
        extra = second(stick, read_only=True)
        began = time.monotonic()
        with bench(runner, workshop, accel, disk, extra, memory_mib=memory) as node:
            ended = node.machine.wait_for(r"install: (done|failed).*", INSTALL_S)
            assert ended.text.strip().endswith(f"done: {VERSION}"), ended.text
            note(record_property, "installed", began)
            wait_serving(node, since=ended.end)
            note(record_property, "serving", began)
            answer = ask(node.machine.ports[API_PORT], QUESTION)
            assert "Paris" in answer.text
            assert f"serving {inference['model']}" in judged(node)["text"]
