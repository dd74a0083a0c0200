"""What recovery remembers: limits over reboots, crashes between steps, two actors, damage."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from imgnode.health.contract import Remedy
from imgnode.recover import byhand, history
from imgnode.recover.state import FOLDER, Store, Trouble
from imgnode.recover.steps import Target
from tests.unit.recover_node import EXPORTER, STALLED, Child, Node
from tests.unit.test_recover import LADDER, REPAIR, START, remedy

STATE = FOLDER / "state.json"


@pytest.fixture
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Node:
    return Node(tmp_path, monkeypatch)


def reboots(node: Node) -> int:
    return node.ran.count("systemctl reboot")


def test_a_trouble_that_comes_back_goes_up_the_ladder(node: Node) -> None:
    """Three times in an hour the first rung helps; then the next one has its turn, and so on."""
    node.mends = lambda line: line == START
    for _ in range(4):
        node.rounds(480, [STALLED])
    assert node.events() == ["begin", "recovered"] * 4
    assert node.steps() == [*LADDER * 3, *REPAIR]
    node.rounds(480, [STALLED])
    assert node.steps()[16:] == ["reboot"]


def test_rungs_of_one_hour_wait_longer_and_longer(node: Node) -> None:
    node.mends = lambda line: line == START
    begun = []
    for _ in range(3):
        before, ran = node.now, len(node.ran)
        node.rounds(5, [STALLED])
        while len(node.ran) == ran:
            node.rounds(5, [STALLED])
        begun.append(node.now - before)
        node.rounds(60)
    assert begun[0] == 5
    assert 0 < begun[1] <= 35
    assert begun[1] < begun[2] <= 65


def test_limits_live_on_over_reboots(node: Node) -> None:
    node.rounds(100, [remedy(Remedy.REBOOT)])
    assert reboots(node) == 1
    node.restart(boot="boot-2")
    node.findings = []
    node.says("serving")
    node.rounds(60)
    assert node.events() == ["begin", "recovered"]
    node.restart(boot="boot-3")  # by whatever else
    node.rounds(400, [remedy(Remedy.REBOOT)])
    assert reboots(node) == 1  # one in an hour
    assert node.steps()[-1] == "quarantine"


def test_at_most_three_reboots_a_day(node: Node) -> None:
    for number in range(3):
        node.rounds(300, [remedy(Remedy.REBOOT)])
        assert reboots(node) == number + 1
        node.restart(boot=f"next-{number}")
        node.says("serving")
        node.rounds(2 * 3600, [])
    node.rounds(300, [remedy(Remedy.REBOOT)])
    assert reboots(node) == 3
    assert node.steps()[-1] == "quarantine"


def test_after_a_reboot_it_is_looked_whether_that_helped(node: Node) -> None:
    node.rounds(20, [remedy(Remedy.REBOOT)])
    node.restart(boot="boot-2")
    node.says("loading", phase="load")
    node.rounds(300, [])
    assert node.told()["state"] == "acting"
    node.says("serving")
    node.rounds(30, [])
    assert node.events() == ["begin", "recovered"]


def test_a_reboot_that_does_not_come_is_a_rung_that_failed(node: Node) -> None:
    node.rounds(400, [remedy(Remedy.REBOOT)])
    assert node.events()[:2] == ["begin", "failed"]


@pytest.mark.parametrize("done", range(4))
def test_a_process_that_dies_between_steps_goes_on_there(node: Node, done: int) -> None:
    node.programs = {"systemctl": (0, 20.0), "docker": (0, 20.0)}
    node.mends = lambda line: line == START
    node.rounds(5, [STALLED])
    while len(node.steps()) < done:
        node.rounds(5)
    node.restart()
    node.rounds(400)
    assert node.steps() == LADDER
    assert node.events() == ["begin", "recovered"]


def test_a_power_cut_in_a_rung_leads_to_the_check(node: Node) -> None:
    node.programs = {"docker rm": (0, 25.0)}
    node.rounds(20, [STALLED])
    node.restart(boot="boot-2")
    ran = len(node.ran)
    node.says("serving")
    node.rounds(30, [])
    assert node.events() == ["begin", "recovered"]
    assert len(node.ran) == ran


def test_of_two_actors_one_acts(node: Node) -> None:
    other = node.new_engine()
    node.programs = {"systemctl stop": (0, 100.0)}
    node.rounds(20, [STALLED])
    before = node.ran.copy()
    for _ in range(10):
        other.consider([STALLED], node.now)
    assert node.ran == before
    assert other.order(Trouble("person", "run", Remedy.SERVE, "x"), node.now) == "recovery"
    with pytest.raises(byhand.Busy, match="recovery goes on"):
        byhand.run_step("stop-service", Target(), node.root)


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"tally": 3}', '{"running": {"x": 1}}', '{"episodes": {"node": {}}}']
)
def test_a_damaged_state_is_kept_aside_and_frees_no_reboot(node: Node, text: str) -> None:
    (node.root / STATE).parent.mkdir(parents=True, exist_ok=True)
    (node.root / STATE).write_text(text)
    node.rounds(60, [remedy(Remedy.REBOOT)])
    assert reboots(node) == 0
    assert (node.root / STATE).with_suffix(".bad").read_text() == text
    json.loads((node.root / STATE).read_text())


def test_without_a_disk_to_remember_on_it_does_not_reboot(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("imgnode.recover.state.write_atomic", full)
    node.mends = lambda line: line == START
    node.rounds(60, [STALLED])
    assert node.ran[-1] == START  # the rest works
    node.rounds(200, [remedy(Remedy.REBOOT)])
    assert reboots(node) == 0


@pytest.mark.parametrize("jump", [-90 * 86400.0, 3 * 3600.0])
def test_a_clock_that_jumps_neither_blocks_nor_loops(node: Node, jump: float) -> None:
    node.mends = lambda line: line == START
    node.rounds(60, [STALLED])
    node.wall += jump
    node.rounds(120, [STALLED])
    assert node.events() == ["begin", "recovered"] * 2


def test_units_have_limits_of_their_own_and_go_no_further(node: Node) -> None:
    node.mends = lambda line: "restart exporter" in line
    for _ in range(5):
        node.rounds(600, [EXPORTER])
    assert node.steps() == ["restart-unit"] * 3
    assert node.told()["state"] == "given up"
    assert [one.key for one in node.engine.complaints()] == ["given_up"]
    node.rounds(120, [])
    assert node.engine.complaints() == []
    assert node.events()[-1] == "over"


def test_totals_are_kept_for_metrics(node: Node) -> None:
    node.mends = lambda line: line == START
    node.rounds(60, [STALLED])
    assert 'imgnode_recover_steps_total{step="restart-docker"} 1\n' in node.prom()
    assert "# TYPE imgnode_recover_steps_total counter\n" in node.prom()
    node.restart(boot="boot-2")
    node.rounds(10, [])
    assert 'imgnode_recover_steps_total{step="restart-docker"} 1\n' in node.prom()


def test_the_history_is_bounded_and_survives_a_torn_line(node: Node) -> None:
    history.add({"event": "a"}, node.root)
    with (node.root / history.FILE).open("a") as stream:
        stream.write('{"event": "to')
    history.add({"event": "b"}, node.root)
    assert [one["event"] for one in history.read(node.root)] == ["a", "b"]
    for _ in range(1000):
        history.add({"event": "c", "text": "x" * 1000}, node.root)
    assert (node.root / history.FILE).stat().st_size < 300_000
    assert history.read(node.root)[-1]["event"] == "c"


def test_by_hand_the_first_rung_runs_to_its_end(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    def sleep(seconds: float) -> None:
        node.now += seconds
        node.wall += seconds

    monkeypatch.setattr("time.sleep", sleep)
    monkeypatch.setattr("time.monotonic", lambda: node.now)
    monkeypatch.setattr(byhand, "Engine", lambda *_, **__: node.engine)
    assert byhand.run_ladder(node.root)
    assert node.steps() == LADDER
    node.serves = False
    assert not byhand.run_ladder(node.root)
    assert REPAIR[1] not in node.steps()  # a person decides what comes next
    assert node.engine.state.episodes == {}


def test_one_step_by_hand_counts(node: Node) -> None:
    ran: list[str] = []

    def begin(argv: object) -> Child:
        ran.append(str(argv))
        return Child(node, 0, 0.0)

    assert byhand.run_step("stop-service", Target(), node.root, begin) == 0
    assert len(ran) == 1
    assert Store(node.root).load(node.wall).totals == {"stop-service": 1}
    byhand.forget(node.root)
    assert Store(node.root).load(node.wall).tally == ()
