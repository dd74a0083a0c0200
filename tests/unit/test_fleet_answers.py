"""What is made of Ansible's events, and of a node's own words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from builder.fleet.engine import Listener
from builder.fleet.job import Result
from builder.fleet.nodes import Node
from builder.fleet.store import Store
from builder.fleet.survey import condition, remembered, take
from fleet.plugins.filter.imgnode import behind, has, outcome, pair, sick, text

SERVING = {"state": "serving", "text": "serving m", "fallback": False}
WELL: dict[str, Any] = {
    "version": "1",
    "maintenance": None,
    "seed_errors": [],
    "serve": {**SERVING, "in_force": {"settings": {"model": "m"}}},
    "health": {"level": "ok", "checks": {}},
}


def event(kind: str, host: str, **result: Any) -> dict[str, Any]:  # noqa: ANN401
    return {"event": f"runner_on_{kind}", "event_data": {"host": host, "task": "t", "res": result}}


def test_the_last_outcome_of_a_node_counts() -> None:
    told: list[tuple[str, str]] = []
    listener = Listener(told=lambda name, one: told.append((name, one.outcome)))
    bad = {"fleet_outcome": {"outcome": "bad", "text": "t", "version": "1"}}
    for one in (
        event("ok", "a", ansible_facts={"fleet_status": WELL}),
        event("unreachable", "b", msg="no route"),
        event("failed", "a", stderr="it broke"),
        event("ok", "a", ansible_facts=bad),
        event("failed", "a", msg="bad: t"),
    ):
        assert listener.hear(one) is False
    assert listener.answers.results["a"] == Result(outcome="bad", text="t", version="1")
    assert listener.answers.results["b"] == Result(outcome="unreachable", text="no route")
    assert listener.answers.said == {"a": WELL}
    assert told == [("a", "bad")]


def test_a_node_that_comes_back_is_no_longer_unreachable() -> None:
    listener = Listener()
    listener.hear(event("unreachable", "a", msg="it reboots"))
    good = {"fleet_outcome": {"outcome": "updated", "text": "", "version": "2"}}
    listener.hear(event("ok", "a", ansible_facts=good))
    assert listener.answers.results["a"].outcome == "updated"


def test_what_a_node_says_in_short() -> None:
    one = condition("a", WELL)
    assert (one.version, one.serving, one.level) == ("1", "m", "ok")
    kept = {**WELL, "maintenance": {"reason": "fans"}}
    assert condition("a", kept).serving == "", "it takes no requests"


def test_a_silent_node_is_told() -> None:
    nodes = [Node(name="a", ansible_host="a"), Node(name="b", ansible_host="b")]
    listener = Listener()
    listener.hear(event("unreachable", "b", msg="no route"))
    listener.hear(event("ok", "a", ansible_facts={"fleet_status": WELL}))
    found = take(nodes, listener.answers)
    assert found["a"].answers
    assert (found["b"].answers, found["b"].text) == (False, "unreachable: no route")


def test_old_answers_are_not_believed(tmp_path: Path) -> None:
    store, nodes = Store(tmp_path), [Node(name="a", ansible_host="a")]
    assert remembered(nodes, store, 1000.0) is None
    store.keep_status({"when": 1000.0, "nodes": {"a": {"name": "a", "answers": True}}})
    assert remembered(nodes, store, 1060.0) is not None
    assert remembered(nodes, store, 5000.0) is None
    assert remembered([*nodes, Node(name="b", ansible_host="b")], store, 1060.0) is None


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({}, ""),
        ({"serve": {**SERVING, "state": "skipped"}}, ""),
        ({"serve": {**SERVING, "state": "failed", "text": "no model"}}, "serve: failed: no model"),
        ({"serve": {**SERVING, "fallback": True}}, "serve: it fell back to the last good config"),
        ({"health": None}, "health: not watched yet"),
        ({"seed_errors": [{"key": "k", "text": "k: is wrong"}]}, "seed: k: is wrong"),
        (
            {
                "health": {
                    "level": "failed",
                    "checks": {"disk": {"findings": [{"level": "failed", "fact": "full"}]}},
                }
            },
            "health: disk: full",
        ),
    ],
)
def test_what_makes_a_node_sick(changes: dict[str, Any], reason: str) -> None:
    assert sick({**WELL, **changes}) == reason


@pytest.mark.parametrize(
    ("result", "stage", "word"),
    [
        ({"stderr": "<3>update: space: 5 MiB are needed"}, "before", "full"),
        ({"msg": "OSError: No space left on device"}, "after", "full"),
        ({"stderr": "update: signature: not signed"}, "before", "refused"),
        ({"msg": "Timed out after 5 s", "timedout": {"period": 5}}, "after", "hung"),
        ({"msg": "async task did not complete within the requested time"}, "before", "hung"),
        ({"msg": "Timeout exceeded", "child_pid": 7}, "before", "hung"),
        ({"msg": "serve: failed"}, "before", "sick"),
        ({"msg": "it runs 1, not 2"}, "after", "bad"),
    ],
)
def test_why_a_task_failed_in_one_word(result: dict[str, Any], stage: str, word: str) -> None:
    assert outcome(result, stage) == word


def test_filters_for_models_and_versions() -> None:
    assert text({"stderr": "<3>two\nlines "}) == "two lines"
    assert text({"msg": "Timeout exceeded"}, "Fetch it") == "no end in time: Fetch it"
    assert pair({"key": "env", "value": {"A": "b"}}) == 'env={"A": "b"}'
    assert has({"model": "m", "dtype": "auto"}, {"model": "m", "revision": None})
    assert not has({"model": "m"}, {"model": "n"})
    assert behind("20261101-a", "20261102-a")
    assert not behind("20261102-a", "20261102-a")
