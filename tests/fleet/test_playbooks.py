"""Every playbook by itself: it does its work, and a second run changes nothing."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.fleet.simulated import BROKEN, MODEL, NEW, OLD, OTHER, Fleet


@pytest.mark.long
@pytest.mark.parametrize(
    ("name", "variables", "changes"),
    [
        ("rollout", {"fleet_version": NEW}, True),
        ("update-model", {"fleet_model": {"model": OTHER, "max_model_len": 512}}, True),
        ("maintenance", {"fleet_maintenance": "on"}, True),
        ("maintenance", {"fleet_maintenance": "off"}, False),
        ("recovery", {"fleet_recover": "pause"}, True),
        ("recovery", {"fleet_recover": "status"}, False),
        ("survey", {}, False),
        ("verify", {"fleet_version": OLD}, False),
        ("monitoring", {}, False),
        ("backup", {}, True),
        ("site", {}, True),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_second_run_changes_nothing(
    tmp_path: Path, name: str, variables: dict[str, Any], changes: bool
) -> None:
    fleet = Fleet.make(tmp_path, 2)
    code, first, said = fleet.playbook(name, **variables)
    assert (code, first > 0) == (0, changes), said
    code, second, said = fleet.playbook(name, **variables)
    assert (code, second) == (0, 0), said


@pytest.mark.long
@pytest.mark.skipif(shutil.which("restic") is None, reason="needs restic")
def test_a_backup_comes_back_once(tmp_path: Path) -> None:
    fleet = Fleet.make(tmp_path, 1)
    for name, variables in (
        ("update-model", {"fleet_model": {"model": OTHER}}),
        ("backup", {}),
        ("update-model", {"fleet_model": {"model": MODEL}}),
    ):
        code, _, said = fleet.playbook(name, **variables)
        assert code == 0, said
    assert fleet.serves("n000") == f"serving {MODEL}"
    code, first, said = fleet.playbook("restore")
    assert (code, first > 0, fleet.serves("n000")) == (0, True, f"serving {OTHER}"), said
    code, second, said = fleet.playbook("restore")
    assert (code, second) == (0, 0), said


@pytest.mark.long
def test_going_back_twice_changes_nothing_more(tmp_path: Path) -> None:
    fleet = Fleet.make(tmp_path, 1)
    assert fleet.playbook("rollout", fleet_version=NEW)[0] == 0
    code, first, said = fleet.playbook("rollback", fleet_version=NEW)
    assert (code, first > 0) == (0, True), said
    assert fleet.versions() == {"n000": OLD}
    code, second, said = fleet.playbook("rollback", fleet_version=NEW)
    assert (code, second) == (0, 0), said


@pytest.mark.long
def test_a_model_goes_everywhere_and_a_broken_one_nowhere(tmp_path: Path) -> None:
    fleet = Fleet.make(tmp_path, 2)
    code, said = fleet.call("update-model", f"model={OTHER}", "--soak", "0")
    assert code == 0, said
    assert [fleet.serves(name) for name in ("n000", "n001")] == [f"serving {OTHER}"] * 2
    code, said = fleet.call("update-model", f"model={BROKEN}", "--soak", "0")
    assert code == 1
    assert fleet.outcomes() == {"n000": "bad", "n001": "waiting"}, said
    assert [fleet.serves(name) for name in ("n000", "n001")] == [f"serving {OTHER}"] * 2
    assert not (tmp_path / "n000/run/imgnode/maintenance").exists(), "it takes requests again"


@pytest.mark.long
def test_a_model_that_is_no_config_is_refused_before_any_node_is_asked(tmp_path: Path) -> None:
    fleet = Fleet.make(tmp_path, 1)
    code, said = fleet.call("update-model", "tensor_parallel_size=many")
    assert (code, "tensor_parallel_size" in said) == (2, True)
    assert fleet.job == {}
    assert fleet.serves("n000") == f"serving {MODEL}"
