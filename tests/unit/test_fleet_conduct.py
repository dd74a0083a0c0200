from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from builder.core.errors import UserError
from builder.fleet import start
from builder.fleet.job import Job, Result
from builder.fleet.store import ABORT, PAUSE, Store
from builder.fleet.survey import Condition
from tests.unit.fleet_parts import Killed, Plays, candidates, conductor, job


def test_a_good_version_goes_everywhere(tmp_path: Path) -> None:
    plays = Plays()
    done = conductor(tmp_path, plays, candidates(8)).go(job(8, waves=("25%", "50%")))
    assert done.good
    assert [len(wave) for wave in plays.waves] == [1, 2, 4, 1]
    assert Store(tmp_path).load() == done


@pytest.mark.parametrize("outcome", ["bad", "hung", "unreachable", "full", "refused", "lost"])
def test_a_canary_that_fails_halts_it_and_nobody_else_is_touched(
    tmp_path: Path, outcome: str
) -> None:
    plays = Plays({"n00": outcome})
    done = conductor(tmp_path, plays, candidates(8)).go(job(8))
    assert (done.state, plays.waves) == ("halted", [["n00"]])
    assert done.counts() == {outcome: 1, "waiting": 7}
    assert f"n00, the first node: {outcome}" in done.why


def test_a_canary_that_falls_ill_while_it_soaks_halts_it(tmp_path: Path) -> None:
    plays = Plays({"verify:n00": "sick"})
    done = conductor(tmp_path, plays, candidates(4)).go(job(4, soak_s=60))
    assert (done.state, done.hosts["n00"].outcome) == ("halted", "bad")
    assert plays.waves == [["n00"]]


def test_the_canary_is_looked_at_again_and_again(tmp_path: Path) -> None:
    plays = Plays()
    conductor(tmp_path, plays, candidates(2)).go(job(2, soak_s=90, look_s=30))
    assert [playbook for playbook, _ in plays.ran].count("verify") == 4


def test_too_many_failures_halt_it(tmp_path: Path) -> None:
    plays = Plays({"n03": "bad"})
    limits = {"waves": ("25%",), "max_failed_percent": 15}
    done = conductor(tmp_path, plays, candidates(8)).go(job(8, **limits))
    assert done.state == "halted"
    assert plays.waves == [["n00"], ["n01", "n02"], ["n03", "n04"]]
    assert done.why == "20 % failed, 15 % may"


def test_few_failures_do_not(tmp_path: Path) -> None:
    plays = Plays({"n03": "unreachable"})
    limits = {"waves": ("50%",), "max_failed_percent": 30}
    done = conductor(tmp_path, plays, candidates(8)).go(job(8, **limits))
    assert (done.state, done.good) == ("done", False)
    assert done.counts() == {"updated": 7, "unreachable": 1}


def test_nodes_that_are_lost_serve_no_more(tmp_path: Path) -> None:
    """Two of four are lost, so the last ones are held back: two must go on serving."""
    plays = Plays({"n01": "hung", "n02": "bad"})
    limits = {"waves": ("2",), "max_failed_percent": 100, "min_replicas": 2}
    done = conductor(tmp_path, plays, candidates(4)).go(job(4, **limits))
    assert done.state == "done"
    assert done.hosts["n03"].outcome == "held"


def test_a_killed_run_is_gone_on_with(tmp_path: Path) -> None:
    def die(_: str, taken: Sequence[str]) -> None:
        if "n03" in taken:
            raise Killed

    first = Plays(before=die)
    with pytest.raises(Killed):
        conductor(tmp_path, first, candidates(6)).go(job(6, waves=("2",)))
    kept = Store(tmp_path).load()
    assert kept is not None
    assert kept.counts() == {"updated": 3, "taken": 2, "waiting": 1}
    second = Plays()
    done = conductor(tmp_path, second, candidates(6)).go(kept)
    assert done.good
    assert second.waves == [["n03", "n04"], ["n05"]]


def test_a_canary_whose_run_was_killed_soaks_all_the_same(tmp_path: Path) -> None:
    def die(playbook: str, _: Sequence[str]) -> None:
        if playbook == "verify":
            raise Killed

    with pytest.raises(Killed):
        conductor(tmp_path, Plays(before=die), candidates(3)).go(job(3))
    kept = Store(tmp_path).load()
    assert kept is not None
    second = Plays({"verify:n00": "sick"})
    assert conductor(tmp_path, second, candidates(3)).go(kept).state == "halted"
    assert second.waves == []


@pytest.mark.parametrize(("wish", "state"), [(PAUSE, "paused"), (ABORT, "aborted")])
def test_a_wish_is_heard_after_the_wave(tmp_path: Path, wish: str, state: str) -> None:
    store = Store(tmp_path)

    def want(_: str, taken: Sequence[str]) -> None:
        if "n01" in taken:
            store.wish(wish)

    done = conductor(tmp_path, Plays(before=want), candidates(6)).go(job(6, waves=("2",)))
    assert done.state == state
    assert done.counts() == {"updated": 3, "waiting": 3}
    assert not store.wished(wish)


def test_a_second_run_is_refused(tmp_path: Path) -> None:
    one, other = Store(tmp_path), Store(tmp_path)
    said = "another run goes on: ops@desk: rollout of 2"
    assert not other.busy()
    with one.lock("ops@desk: rollout of 2"):
        assert other.busy()
        with pytest.raises(UserError, match=said):
            other.lock("me").__enter__()
    assert not other.busy()
    with other.lock("me"):
        pass


def test_a_new_job_waits_for_the_end_of_the_old_one(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.begin(job(2))
    with pytest.raises(UserError, match="is not over: cut off"):
        store.begin(job(2))
    store.save(job(2).at("halted"))
    store.begin(job(2).model_copy(update={"name": "2"}))
    assert (tmp_path / "jobs/1.json").exists()


def test_a_job_that_nobody_works_on_was_cut_off() -> None:
    running, halted = job(1), job(1).at("halted", "n00: bad")
    assert [running.stands(busy=True), running.stands(busy=False)] == ["running", "cut off"]
    assert halted.stands(busy=False) == "halted (n00: bad)"


def test_a_damaged_file_is_told(tmp_path: Path) -> None:
    (tmp_path / "job.json").write_text("{")
    with pytest.raises(UserError, match="cannot be understood"):
        Store(tmp_path).load()


def test_taking_back_leaves_alone_what_was_not_touched() -> None:
    done = conductor_outcomes({"a": "updated", "b": "bad", "c": "refused", "d": "waiting"})
    back = start.rollback(done, "ops@desk")
    assert list(back.hosts) == ["a", "b"]
    assert back.wave == 1


def conductor_outcomes(outcomes: dict[str, str]) -> Job:
    made = job(0)
    waves = {name: None if one == "waiting" else 0 for name, one in outcomes.items()}
    hosts = {n: Result(outcome=one, wave=waves[n]) for n, one in outcomes.items()}
    return made.model_copy(update={"hosts": hosts})


@pytest.mark.parametrize(
    ("version", "outcome"),
    [("1", "waiting"), ("2", "there"), ("3", "newer"), (None, "unreachable")],
)
def test_what_is_to_be_done_with_a_node(version: str | None, outcome: str) -> None:
    one = Condition("n", answers=version is not None, version=version or "")
    assert start.stand(one, "2").outcome == outcome


def test_nodes_that_answer_again_are_taken_up() -> None:
    cut = conductor_outcomes({"a": "updated", "b": "taken"})
    silent = Result(outcome="unreachable")
    cut = cut.put({"c": silent, "d": silent, "e": Result()})
    known = {name: Condition(name, answers=name not in "de", version="1") for name in "abcde"}
    outcomes = {name: one.outcome for name, one in start.again(cut, known).hosts.items()}
    assert outcomes == {
        "a": "updated",
        "b": "taken",
        "c": "waiting",
        "d": "unreachable",
        "e": "unreachable",
    }
