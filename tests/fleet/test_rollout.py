"""A rollout over simulated nodes that run the real imgnode, by the real Ansible."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from tests.fleet.simulated import NEW, OLD, Fleet

_FAST = ("--soak", "0", "--waves", "100%")


def test_a_bad_version_halts_after_the_canary_and_no_second_run_is_let_in(tmp_path: Path) -> None:
    fleet = Fleet.make(tmp_path, 3, bad=[NEW])
    first = fleet.start("rollout", NEW, *_FAST)
    fleet.wait(lambda: "taken" in fleet.outcomes().values())
    code, said = fleet.call("rollout", NEW)
    assert code == 2
    assert "another run goes on" in said
    out, err = first.communicate(timeout=900)
    assert first.returncode == 1, out + err
    assert fleet.versions() == dict.fromkeys(("n000", "n001", "n002"), OLD)
    assert fleet.outcomes() == {"n000": "bad", "n001": "waiting", "n002": "waiting"}
    assert "it was started three times and did not become good" in out
    assert fleet.serves("n000") == "serving org/one"


def test_a_killed_run_is_gone_on_with_and_the_nodes_know_who_did_it(tmp_path: Path) -> None:
    fleet = Fleet.make(tmp_path, 2, stage_s=2)
    first = fleet.start("rollout", NEW, *_FAST)
    fleet.wait(lambda: bool(fleet.journal("n000")))
    first.send_signal(signal.SIGKILL)
    first.communicate()
    assert fleet.outcomes() == {"n000": "taken", "n001": "waiting"}
    code, said = fleet.call("resume")
    assert code == 0, said
    assert fleet.versions() == {"n000": NEW, "n001": NEW}
    assert set(fleet.outcomes().values()) <= {"updated", "there"}
    (line,) = fleet.journal("n001")
    assert line.startswith("rollout 2")
    assert line.endswith(f": take {NEW}")


@pytest.mark.long
def test_what_cannot_be_updated_is_told_and_counted(tmp_path: Path) -> None:
    fleet = Fleet.make(tmp_path, 8)
    (tmp_path / "n001/down").write_text("0")
    fleet.change("n002", fault="full")
    fleet.change("n003", fault="hung")
    fleet.change("n004", offer=None)
    fleet.image("n005", "20270101-cc")
    fleet.change("n007", offer="20260202-ab")
    inventory = tmp_path / "inventory.yml"
    inventory.write_text(
        inventory.read_text().replace('"fleet_looks"', '"fleet_work_s": 240, "fleet_looks"')
    )
    code, said = fleet.call("rollout", NEW, *_FAST, "--max-failed", "100")
    assert code == 1
    assert fleet.outcomes() == {
        "n000": "updated",
        "n001": "unreachable",
        "n002": "full",
        "n003": "hung",
        "n004": "refused",
        "n005": "newer",
        "n006": "updated",
        "n007": "refused",
    }, said
    assert "3 MiB are free" in said
    assert fleet.job["hosts"]["n003"]["text"] == "no end in time: Fetch and check it"
    assert "it offers 20260202-ab and not 20260202-bb" in said
    assert fleet.versions()["n005"] == "20270101-cc"


@pytest.mark.long
def test_a_version_that_does_not_serve_is_taken_back_when_asked_for(tmp_path: Path) -> None:
    fleet = Fleet.make(tmp_path, 3)
    fleet.change("n001", sick=[NEW])
    code, said = fleet.call("rollout", NEW, *_FAST, "--roll-back")
    assert code == 1
    assert set(fleet.versions().values()) == {OLD}, said
    assert fleet.job["kind"] == "rollback"
    assert set(fleet.outcomes().values()) == {"back"}


@pytest.mark.long
def test_it_pauses_goes_on_and_ends(tmp_path: Path) -> None:
    fleet = Fleet.make(tmp_path, 3)
    first = fleet.start("rollout", NEW, "--soak", "0", "--waves", "1")
    fleet.wait(lambda: "taken" in fleet.outcomes().values())
    assert fleet.call("pause")[0] == 0
    first.communicate(timeout=900)
    assert fleet.job["state"] == "paused"
    assert list(fleet.versions().values()).count(NEW) == 1
    assert fleet.call("rollout", NEW)[0] == 2, "one is not over"
    assert fleet.call("abort")[0] == 0
    assert fleet.job["state"] == "aborted"
    assert fleet.call("resume")[0] == 2
