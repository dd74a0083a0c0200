"""The ladder: which steps are taken for which trouble, in which order, and when none is."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from imgnode.alone import CHANGE, GATE, Lock
from imgnode.gate import quarantine
from imgnode.health.contract import Finding, Level, Remedy
from imgnode.health.report import MAINTENANCE
from imgnode.recover import holds
from imgnode.recover.holds import Unit
from imgnode.recover.steps import STEPS, Target
from tests.unit import serve_node
from tests.unit.recover_node import DOCKER, EXPORTER, GPU, STALLED, Node
from tests.unit.test_imgnode import counting

LADDER = ["stop-service", "remove-container", "restart-docker", "start-service"]
REPAIR = ["stop-service", "repair-config", "restart-docker", "start-service"]
RESET = ["stop-service", "reset-gpu", "start-service"]
START = "systemctl --no-block start vllm.service"


@pytest.fixture
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Node:
    return Node(tmp_path, monkeypatch)


def remedy(which: Remedy, **more: object) -> Finding:
    return Finding("x", "y", Level.FAILED, "a fact", remedy=which, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("finding", "mended_by", "steps"),
    [
        (STALLED, START, LADDER),
        (STALLED, "repair-config", [*LADDER, *REPAIR]),
        (dataclasses.replace(STALLED, gpus=(1,)), "reset-gpu", [*LADDER, *REPAIR, *RESET]),
        (STALLED, "nothing", [*LADDER, *REPAIR, "reboot"]),
        (DOCKER, "restart containerd.service docker.service", ["restart-docker", "start-service"]),
        (GPU, "reset-gpu:0:3", RESET),
        (dataclasses.replace(GPU, gpus=()), "nothing", ["reboot"]),
        (remedy(Remedy.CONFIG), "repair-config", REPAIR),
        (remedy(Remedy.REBOOT), "nothing", ["reboot"]),
        (remedy(Remedy.QUARANTINE), "nothing", ["quarantine"]),
        (EXPORTER, "restart exporter.service", ["restart-unit"]),
    ],
    ids=lambda value: value.key if isinstance(value, Finding) else None,
)
def test_a_trouble_has_its_steps(
    node: Node, finding: Finding, mended_by: str, steps: list[str]
) -> None:
    node.mends = lambda line: mended_by in line
    node.rounds(3000 if mended_by != "nothing" else 2100, [finding])
    assert node.steps()[: len(steps)] == steps
    if mended_by != "nothing":
        assert node.steps() == steps
        assert node.events()[-1] == "recovered"
        assert node.told()["state"] == "idle"
        assert node.engine.complaints() == []


def test_what_does_not_help_ends_in_quarantine(node: Node) -> None:
    node.rounds(1800, [STALLED])
    assert node.steps() == [*LADDER, *REPAIR, "reboot"]
    node.restart(boot="boot-2")
    node.says("serving")
    node.rounds(1500)
    assert node.steps()[9:] == ["quarantine"]
    assert quarantine.read(node.root) == STALLED.fact
    assert (node.root / quarantine.LASTING).exists()
    assert node.told()["state"] == "given up"
    assert [one.key for one in node.engine.complaints()] == ["quarantine"]
    before = node.ran.copy()
    node.rounds(7200)
    assert node.ran == before  # a person is needed now
    assert "imgnode_quarantine 1" in node.prom()


@pytest.mark.parametrize(
    "finding",
    [
        Finding("serve", "saturated", Level.OK, "600 requests wait", remedy=Remedy.SERVE),
        Finding("serve", "slow", Level.WARNING, "it is slow", remedy=Remedy.SERVE),
        Finding("disk", "full", Level.FAILED, "/var is full"),
    ],
    ids=lambda one: one.key,
)
def test_only_what_failed_and_can_be_mended_is_acted_on(node: Node, finding: Finding) -> None:
    node.rounds(3600, [finding])
    assert node.ran == []
    assert node.told() == {"state": "idle", "text": "nothing to do"}
    assert finding in node.alerts[-1]


def test_the_worst_comes_first(node: Node) -> None:
    node.mends = lambda line: "reset-gpu" in line
    node.rounds(5, [EXPORTER, STALLED, GPU])
    assert node.told()["text"].startswith("gpu-reset: ")


def test_a_unit_does_not_wait_for_a_node_that_is_held(node: Node) -> None:
    node.says("loading", phase="load", began=node.now)
    node.rounds(60, [STALLED, EXPORTER])
    assert "systemctl restart exporter.service" in node.ran
    assert START not in node.ran


def test_the_look_at_a_unit_does_not_keep_the_node_waiting(node: Node) -> None:
    node.rounds(30, [EXPORTER])
    node.mends = lambda line: line == START
    node.rounds(60, [EXPORTER, STALLED])
    assert node.steps() == ["restart-unit", *LADDER]
    assert node.events()[:3] == ["begin", "left", "begin"]


@pytest.mark.parametrize("by", ["pause", "maintenance", "quarantine"])
def test_a_person_need_not_wait_for_the_look_at_a_rung(node: Node, by: str) -> None:
    node.serves = None
    node.rounds(60, [STALLED])
    assert node.engine.busy
    if by == "pause":
        holds.pause(None, node.wall, node.root)
    elif by == "maintenance":
        serve_node.put(node.root / MAINTENANCE, "")
    else:
        quarantine.impose("a person says so", node.root, lasting=True)
    node.rounds(600)
    assert not node.engine.busy
    assert (node.steps(), node.events()) == (LADDER, ["begin", "left"])


def test_what_asks_for_quarantine_does_not_wait_for_a_load(node: Node) -> None:
    node.serves = None
    node.rounds(60, [STALLED])
    node.rounds(60, [STALLED, remedy(Remedy.QUARANTINE)])
    assert node.steps() == [*LADDER, "quarantine"]


def test_a_hanging_program_is_ended_and_the_ladder_goes_on(node: Node) -> None:
    node.programs = {"docker rm": (0, None), "systemctl restart containerd": (0, None)}
    node.mends = lambda line: line == START
    node.rounds(400, [DOCKER, STALLED])
    assert "systemctl kill --signal=SIGKILL containerd.service docker.service" in node.ran
    assert "systemctl start containerd.service docker.service" in node.ran
    assert node.events() == ["begin", "recovered"]


def test_a_docker_that_restarts_is_not_killed(node: Node) -> None:
    node.programs = {"systemctl restart containerd": (0, 20.0)}
    node.mends = lambda line: line == START
    node.rounds(300, [DOCKER])
    assert not any("SIGKILL" in line for line in node.ran)


def test_a_vital_step_that_failed_is_not_waited_for(node: Node) -> None:
    node.programs = {"systemctl restart containerd": (1, 0.0)}
    node.rounds(120, [DOCKER])
    assert node.events()[:3] == ["begin", "failed", "begin"]
    assert "repair-config" in node.steps()


def test_a_model_that_loads_again_is_waited_for(node: Node) -> None:
    node.serves = False
    node.mends = lambda line: line == START
    node.rounds(20, [STALLED])
    node.says("loading", phase="fetch")
    node.rounds(3 * 3600)  # it fetches
    assert node.told()["state"] == "acting"
    node.says("serving")
    node.rounds(30)
    assert node.events() == ["begin", "recovered"]


def test_what_the_service_said_before_counts_for_nothing(node: Node) -> None:
    node.serves = None
    node.mends = lambda line: line == START
    node.rounds(120, [STALLED])
    assert node.told()["state"] == "acting"
    node.says("serving")
    node.rounds(20)
    assert node.events() == ["begin", "recovered"]


def test_starts_that_fail_again_and_again_are_not_waited_for(node: Node) -> None:
    node.serves = False
    node.mends = lambda line: line == START
    node.rounds(10, [STALLED])
    for _ in range(6):
        node.says("failed")
        node.rounds(5)
    assert node.events() == ["begin", "failed"]


# Why nothing is done now.


def test_a_model_load_is_left_alone(node: Node) -> None:
    node.says("loading", phase="load", began=node.now)
    node.rounds(800, [STALLED, dataclasses.replace(GPU, remedy=Remedy.REBOOT)])
    assert node.ran == []
    assert node.told()["text"].startswith("a model is loading: ")
    node.rounds(200)  # 600 s and some more are over: it does not load any more
    assert node.ran != []


def test_a_load_does_not_keep_docker_down(node: Node) -> None:
    node.says("loading", phase="load", began=node.now)
    node.rounds(10, [DOCKER])
    assert "systemctl restart containerd.service docker.service" in node.ran


def test_what_systemd_restarts_itself_is_left_to_it_for_a_while(node: Node) -> None:
    node.units = {"docker.service": Unit("activating", busy=True)}
    node.rounds(25, [DOCKER])
    assert node.ran == []
    assert node.told()["text"].startswith("systemd restarts docker.service: ")
    node.rounds(20)
    assert node.ran != []


def test_three_starts_that_failed_end_the_patience(node: Node) -> None:
    node.units = {"vllm.service": Unit("activating", busy=True)}
    node.says("failed", starts_failed=1)
    node.rounds(60, [STALLED])
    assert node.ran == []
    node.says("failed", starts_failed=3)
    node.rounds(5)
    assert node.ran[0] == "systemctl stop vllm.service"


def test_what_a_person_has_stopped_stays_stopped(node: Node) -> None:
    node.units = {"vllm.service": Unit("inactive", busy=False)}
    node.says("stopped")
    node.rounds(3600, [STALLED, DOCKER])
    assert node.ran == []


@pytest.mark.parametrize("which", ["pause", "maintenance", "quarantine", "gate", "update"])
def test_others_keep_it_from_acting(node: Node, which: str) -> None:
    lock = Lock(GATE if which == "gate" else CHANGE, node.root)
    if which == "pause":
        holds.pause(7200, node.wall, node.root)
    elif which == "maintenance":
        serve_node.put(node.root / MAINTENANCE, "")
    elif which == "quarantine":
        quarantine.impose("ill", node.root)
    elif which == "gate":
        lock.share("the gate")
    else:
        assert lock.take("an update") is None
    node.rounds(3600, [STALLED])
    assert node.ran == node.events() == []
    paused = int(which in ("pause", "maintenance"))
    assert f"imgnode_recover_paused {paused}\n" in node.prom()
    assert f"imgnode_quarantine {int(which == 'quarantine')}\n" in node.prom()
    lock.release()
    quarantine.lift(node.root)
    (node.root / MAINTENANCE).unlink(missing_ok=True)
    node.rounds(3610)
    assert node.steps()[:4] == LADDER


def test_a_pause_without_an_end_lasts(node: Node) -> None:
    holds.pause(None, node.wall, node.root)
    node.rounds(7200, [STALLED])
    assert node.ran == []
    assert holds.resume(node.root)
    assert not holds.resume(node.root)
    node.rounds(10)
    assert node.ran != []


def test_an_update_cannot_begin_while_a_rung_is_done(node: Node) -> None:
    node.programs = {"systemctl stop": (0, 100.0)}
    node.rounds(20, [STALLED])
    assert Lock(CHANGE, node.root).take("an update") == "recovery"
    node.mends = lambda line: line == START
    node.rounds(200)
    assert node.events()[-1] == "recovered"
    assert Lock(CHANGE, node.root).take("an update") is None


def test_a_version_on_trial_is_not_rebooted(node: Node) -> None:
    name = "x_1+2-1.efi"
    counting(node.root, rf"\EFI\Linux\{name}")
    (node.root / "boot/EFI/Linux").mkdir(parents=True)
    (node.root / "boot/EFI/Linux" / name).touch()
    node.rounds(60, [remedy(Remedy.REBOOT)])
    assert "systemctl reboot" not in node.ran


def test_every_step_is_bounded() -> None:
    for step in STEPS.values():
        for command in step.commands(Target("a.service", (0,))):
            assert 0 < command.timeout_s <= 330
        assert step.per_hour > 0
