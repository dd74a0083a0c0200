"""Which config is served: each step of falling back, and what may be laid over the seed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from imgnode.serve import choice, override
from imgnode.serve.choice import TRIES, Attempt, choose
from imgnode.serve.override import Override, merge
from imgnode.serve.plan import OVERRIDE, read_plan, read_wish
from tests.unit.serve_node import MODEL, make, put, seed

GOOD, OTHER = {"model": MODEL}, {"model": MODEL, "max_model_len": 1 << 20}


@pytest.mark.parametrize(
    ("proven", "count", "fallback"),
    [
        (None, 0, False),
        (None, 50, False),  # nothing to return to: it keeps trying
        (GOOD, TRIES - 1, False),
        (GOOD, TRIES, True),
        (GOOD, 50, True),
        (OTHER, 50, False),  # the proven config is the wanted one
    ],
)
def test_three_tries_then_the_proven_one(
    proven: dict[str, object] | None, count: int, fallback: bool
) -> None:
    made = choose(OTHER, proven, Attempt(count))
    assert made.fallback == fallback
    assert made.in_force == (GOOD if fallback else OTHER)
    assert made.wanted == OTHER


def test_starts_are_counted_for_each_config_alone(tmp_path: Path) -> None:
    for _ in range(2):
        choice.begin(OTHER, tmp_path)
    choice.begin(GOOD, tmp_path)
    assert choice.load_attempt(OTHER, tmp_path).count == 2
    choice.failed(OTHER, "config", "too long", tmp_path)
    assert choice.load_attempt(OTHER, tmp_path) == Attempt(2, "config", "too long", "")
    choice.forget(OTHER, tmp_path)
    assert choice.load_attempt(OTHER, tmp_path) == Attempt()
    assert choice.load_attempt(GOOD, tmp_path).count == 1


def test_a_start_that_takes_the_node_down_is_counted(tmp_path: Path) -> None:
    choice.begin(OTHER, tmp_path)
    attempt = choice.load_attempt(OTHER, tmp_path)
    assert attempt.count == 1
    assert "went down" in str(attempt.error)


def test_a_start_that_says_nothing_is_taken_back(tmp_path: Path) -> None:
    choice.begin(OTHER, tmp_path)
    choice.failed(OTHER, "config", "too long", tmp_path)
    before = choice.load_attempt(OTHER, tmp_path)
    choice.begin(OTHER, tmp_path)
    choice.uncount(OTHER, before, tmp_path)
    assert choice.load_attempt(OTHER, tmp_path) == before


@pytest.mark.parametrize(("kind", "count"), [("fetch", 0), ("disk", 0), ("config", 3)])
def test_trouble_of_the_moment_is_forgotten_at_the_next_boot(
    tmp_path: Path, kind: str, count: int
) -> None:
    make(tmp_path)
    for _ in range(3):
        choice.begin(OTHER, tmp_path)
        choice.failed(OTHER, kind, "why", tmp_path)
    assert choice.load_attempt(OTHER, tmp_path).count == 3
    put(tmp_path / "proc/sys/kernel/random/boot_id", "boot-2")
    assert choice.load_attempt(OTHER, tmp_path).count == count


@pytest.mark.parametrize("text", ["", "[]", "{", '{"settings": 3}', '{"settings": {}}'])
def test_a_damaged_state_is_no_state(tmp_path: Path, text: str) -> None:
    for name in ("proven", "attempts", "override"):
        put(tmp_path / f"var/lib/imgnode/model/{name}.json", text)
    assert choice.load_proven(tmp_path) is None
    assert choice.load_attempt(GOOD, tmp_path) == Attempt()
    assert override.load(GOOD, tmp_path).values == {}
    choice.begin(GOOD, tmp_path)
    assert choice.load_attempt(GOOD, tmp_path).count == 1


def test_only_so_many_configs_are_remembered(tmp_path: Path) -> None:
    for number in range(40):
        choice.begin({"model": f"m{number}"}, tmp_path)
    assert choice.load_attempt({"model": "m0"}, tmp_path).count == 0
    assert choice.load_attempt({"model": "m39"}, tmp_path).count == 1


def test_a_new_seed_has_its_own_tries(tmp_path: Path) -> None:
    make(tmp_path, OTHER)
    choice.save_proven(GOOD, 1.0, "x_1", tmp_path)
    for _ in range(TRIES):
        choice.begin(OTHER, tmp_path)
    plan = read_plan(tmp_path)
    assert plan is not None
    assert plan.choice.fallback
    assert plan.choice.in_force == GOOD
    seed(tmp_path, {**OTHER, "max_num_seqs": 2})
    plan = read_plan(tmp_path)
    assert plan is not None
    assert not plan.choice.fallback


def test_a_proven_config_that_this_image_refuses_is_no_way_back(tmp_path: Path) -> None:
    make(tmp_path, OTHER)
    choice.save_proven({"model": MODEL, "extra_args": {"gone-flag": 1}}, 1.0, "x_1", tmp_path)
    for _ in range(TRIES):
        choice.begin(OTHER, tmp_path)
    plan = read_plan(tmp_path)
    assert plan is not None
    assert plan.choice.in_force == OTHER


@pytest.mark.parametrize(
    ("under", "over", "merged"),
    [
        ({"model": "a"}, {}, {"model": "a"}),
        ({"model": "a"}, {"dtype": "auto"}, {"model": "a", "dtype": "auto"}),
        ({"model": "a", "dtype": "half"}, {"dtype": None}, {"model": "a"}),
        ({"model": "a", "revision": "1", "seed": 1}, {"model": "b"}, {"model": "b", "seed": 1}),
        ({"model": "a", "revision": "1"}, {"model": "a"}, {"model": "a", "revision": "1"}),
        ({"model": "a", "revision": "1"}, {"model": "b", "revision": "2"},
         {"model": "b", "revision": "2"}),
        ({"env": {"A": "1", "B": "2"}}, {"env": {"B": None, "C": "3"}},
         {"env": {"A": "1", "C": "3"}}),
        ({"extra_args": {"x": 1}}, {"extra_args": {"x": None}}, {}),
        ({"api_key": {"secret": "a"}}, {"api_key": {"secret": "b"}}, {"api_key": {"secret": "b"}}),
    ],
)  # fmt: skip
def test_laying_over(
    under: dict[str, object], over: dict[str, object], merged: dict[str, object]
) -> None:
    assert merge(under, over) == merged


def test_an_override_belongs_to_the_seed_it_was_made_over(tmp_path: Path) -> None:
    make(tmp_path)
    override.save(Override(choice.digest(GOOD), {"max_model_len": 512}), tmp_path)
    wish = read_wish(0, tmp_path)
    assert wish.settings == {**GOOD, "max_model_len": 512}
    assert (wish.origin("max_model_len"), wish.origin("model")) == (OVERRIDE, "seed")
    assert not override.drop_stale(GOOD, tmp_path)
    seed(tmp_path, {**GOOD, "dtype": "half"})
    assert read_wish(0, tmp_path).settings == {**GOOD, "dtype": "half"}
    assert override.drop_stale({**GOOD, "dtype": "half"}, tmp_path)
    seed(tmp_path, GOOD)
    assert read_wish(0, tmp_path).settings == GOOD


def test_an_override_that_this_image_refuses_is_left_out(tmp_path: Path) -> None:
    make(tmp_path)
    override.save(Override(choice.digest(GOOD), {"gone": 1}), tmp_path)
    wish = read_wish(0, tmp_path)
    assert wish.settings == GOOD
    assert "inference.gone: unknown key" in str(wish.ignored)


def test_an_empty_override_leaves_no_file(tmp_path: Path) -> None:
    override.save(Override("x", {"dtype": "auto"}), tmp_path)
    override.save(Override("x"), tmp_path)
    assert list((tmp_path / choice.STATE).iterdir()) == []


def test_nothing_to_serve(tmp_path: Path) -> None:
    assert read_plan(make(tmp_path, {})) is None
    seed(tmp_path, GOOD)
    assert read_plan(tmp_path) is not None
    (tmp_path / "usr/lib/imgnode/payload.json").unlink()
    assert read_plan(tmp_path) is None


def test_a_model_set_by_hand_is_enough(tmp_path: Path) -> None:
    make(tmp_path, {})
    override.save(Override(choice.digest({}), GOOD), tmp_path)
    assert read_plan(tmp_path) is not None


def test_who_proved_a_config(tmp_path: Path) -> None:
    assert choice.proven_by(GOOD, tmp_path) is None
    choice.save_proven(GOOD, 1.0, "x_2", tmp_path)
    assert choice.proven_by(GOOD, tmp_path) == "x_2"
    assert choice.proven_by({**GOOD, "max_model_len": 1}, tmp_path) is None
    kept = tmp_path / "var/lib/imgnode/model/proven.json"
    kept.write_text(json.dumps({"settings": GOOD, "when": 1}))
    assert choice.proven_by(GOOD, tmp_path) == ""
