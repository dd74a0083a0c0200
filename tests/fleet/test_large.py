"""A rollout over as many nodes as a site may have: 200, or FLEET_SIMULATED."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import pytest

from tests.fleet.simulated import NEW, OLD, Fleet

pytestmark = [pytest.mark.long, pytest.mark.timeout(2 * 3600)]

NODES = int(os.environ.get("FLEET_SIMULATED", "200"))
LIMIT_S = 2 * 3600 - 60


def test_a_bad_version_reaches_one_of_them(tmp_path: Path) -> None:
    fleet = Fleet.make(tmp_path, NODES, bad=[NEW])
    code, said = fleet.call("rollout", NEW, "--soak", "0", limit_s=LIMIT_S)
    assert code == 1, said
    assert Counter(fleet.outcomes().values()) == {"bad": 1, "waiting": NODES - 1}
    assert set(fleet.versions().values()) == {OLD}
    assert sum(bool(fleet.journal(name)) for name in fleet.versions()) == 1


def test_a_good_version_reaches_all_of_them_in_waves(tmp_path: Path) -> None:
    fleet = Fleet.make(tmp_path, NODES)
    waves = ("--soak", "0", "--waves", "10%,50%,100%")
    code, said = fleet.call("rollout", NEW, *waves, limit_s=LIMIT_S)
    assert code == 0, said
    assert set(fleet.versions().values()) == {NEW}
    assert set(fleet.outcomes().values()) == {"updated"}
    assert all(len(fleet.journal(name)) == 1 for name in fleet.versions())
