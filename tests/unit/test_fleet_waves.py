from __future__ import annotations

import pytest

from builder.core.errors import UserError
from builder.fleet.job import Limits
from builder.fleet.waves import Candidate, all_waves, next_wave, serving_by_model, size
from tests.unit.fleet_parts import candidates


@pytest.mark.parametrize(
    ("share", "total", "count"), [("5", 3, 5), ("10%", 5, 1), ("25%", 40, 10), ("100%", 7, 7)]
)
def test_a_share_is_a_number_of_nodes(share: str, total: int, count: int) -> None:
    assert size(share, total) == count


@pytest.mark.parametrize("share", ["0", "-1", "x", "101%", "", "1.5", "٣"])
def test_what_is_no_share_is_refused(share: str) -> None:
    with pytest.raises(UserError):
        size(share, 10)


def test_one_node_comes_first_then_shares_the_last_one_again_and_again() -> None:
    there = candidates(20)
    waves, held = all_waves(
        there, serving_by_model(there), Limits(waves=("10%", "25%"), min_replicas=0)
    )
    assert [len(wave) for wave in waves] == [1, 2, 5, 5, 5, 2]
    assert held == []
    assert sorted(name for wave in waves for name in wave) == [one.name for one in there]


def test_enough_nodes_of_each_model_go_on_serving() -> None:
    there = [*candidates(4, "A"), Candidate("b", "r9", "B"), Candidate("idle", "r9", "")]
    limits = Limits(waves=("100%",), min_replicas=1)
    waves, held = all_waves(there, serving_by_model(there), limits)
    assert waves == [["n00"], ["n01", "n02", "n03", "idle"]]
    assert held == ["b"]


def test_what_others_serve_counts() -> None:
    """A rollout over a part of the nodes may take the last one of them."""
    serving = {"A": {"n00", "elsewhere"}}
    assert next_wave(0, candidates(1, "A"), serving, Limits(), 1) == ["n00"]
    assert next_wave(0, candidates(1, "A"), {"A": {"n00"}}, Limits(), 1) == []


def test_a_node_that_serves_nothing_costs_no_replica() -> None:
    there = candidates(3, "A")
    serving = {"A": {"n02"}}
    assert next_wave(1, there, serving, Limits(waves=("100%",)), 3) == ["n00", "n01"]


def test_the_canary_serves_where_any_does() -> None:
    there = [Candidate("a", "", ""), *candidates(2)]
    assert next_wave(0, there, serving_by_model(there), Limits(), 3) == ["n00"]


def test_one_rack_at_a_time() -> None:
    there = sorted(candidates(9), key=lambda one: one.rack)
    limits = Limits(waves=("100%",), by_rack=True, min_replicas=0)
    waves, _ = all_waves(there, serving_by_model(there), limits)
    racks = [{one.rack for one in there if one.name in wave} for wave in waves]
    assert racks == [{"r0"}, {"r0"}, {"r1"}, {"r2"}]
