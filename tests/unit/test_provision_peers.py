"""Machines that fetch from each other: who waits, who fetches from whom, who may leave."""

from __future__ import annotations

from pathlib import Path

import pytest

from builder.serve import view
from builder.serve.identity import Identity
from builder.serve.progress import parse_report
from tests.unit.provision_desk import Room, room, who

COUNT = 8


@pytest.fixture
def made(tmp_path: Path) -> Room:
    nodes = {f"gpu-{n}": {"serial": f"S{n}"} for n in range(COUNT)}
    share = {"port": 7000, "from_server": 2, "from_node": 2}
    return room(tmp_path, nodes, share=share)


def machine(number: int) -> Identity:
    return who(f"S{number}")


def key(made: Room, number: int) -> str:
    return made.desk.store.node(f"gpu-{number}").key


def done(made: Room, number: int) -> None:
    report = parse_report(b'{"schema_version": 1, "phase": "done"}')
    assert report
    assert made.desk.report(f"gpu-{number}", key(made, number), report)


def shares(made: Room, number: int) -> bool | None:
    return made.desk.shares(f"gpu-{number}", key(made, number), f"10.9.0.{number}")


def test_a_few_fetch_from_the_server_the_others_from_them(made: Room) -> None:
    for number in (0, 1):
        order = made.ask(machine(number))
        assert (order["peers"], order["share"]) == ([], 7000)
    waits = "waits its turn: 2 fetch from the server, and share then"
    assert made.ask(machine(2)) == {"wait": waits}
    row = next(one for one in view.rows(made.desk) if one.name == "gpu-2")
    assert (row.state, row.why) == ("held", waits)
    done(made, 0)
    assert made.ask(machine(2)) == {"wait": waits}  # the first one is about to share
    assert shares(made, 0)
    assert made.ask(machine(2))["peers"] == ["http://10.9.0.0:7000"]
    done(made, 1)
    assert shares(made, 1)
    # The one with less to do comes first, the other for when that one fails.
    assert made.ask(machine(3))["peers"] == ["http://10.9.0.1:7000", "http://10.9.0.0:7000"]
    for number in (4, 5):
        made.ask(machine(number))
    assert made.ask(machine(6)) == {"wait": "waits its turn: those that share have 2 each"}


def test_who_shares_stays_until_nobody_is_left(made: Room) -> None:
    made.ask(machine(0))
    done(made, 0)
    made.ask(machine(1))
    assert shares(made, 0)
    row = next(one for one in view.rows(made.desk) if one.name == "gpu-0")
    assert (row.state, row.phase) == ("done", "share")
    done(made, 1)
    assert shares(made, 1) is False
    made.clock.now += 16
    assert shares(made, 0) is False
    assert made.desk.peers.sharing(made.clock.now) == []


def test_one_that_waits_keeps_those_that_share(made: Room) -> None:
    for number in (0, 1):
        made.ask(machine(number))
    assert "wait" in made.ask(machine(2))
    for number in (0, 1):
        done(made, number)
    made.clock.now += 30
    assert shares(made, 0) is True
    made.clock.now += 60  # it does not ask again
    assert shares(made, 0) is False


def test_a_machine_that_went_away_is_not_named_any_more(made: Room) -> None:
    made.ask(machine(0))
    done(made, 0)
    made.ask(machine(1))
    assert shares(made, 0)
    made.clock.now += 25
    assert made.ask(machine(2))["peers"] == []


def test_another_image_is_not_fetched_from_it(tmp_path: Path) -> None:
    nodes = {"gpu-0": {"serial": "S0"}, "gpu-1": {"serial": "S1", "profile": "a100"}}
    mixed = room(tmp_path / "mixed", nodes, share={"from_server": 5})
    for number in (0, 1):
        mixed.ask(machine(number))
    done(mixed, 0)
    assert shares(mixed, 0)
    assert mixed.ask(machine(1))["peers"] == []


def test_only_who_was_ordered_and_is_done_shares(made: Room, tmp_path: Path) -> None:
    made.ask(machine(0))
    assert shares(made, 0) is None  # not done yet
    done(made, 0)
    assert made.desk.shares("gpu-0", "guessed", "10.9.0.66") is None
    plain = room(tmp_path / "plain", {"gpu-0": {"serial": "S0"}})
    order = plain.ask(machine(0))
    assert not {"share", "peers"} & set(order)
    done(plain, 0)
    assert shares(plain, 0) is None
