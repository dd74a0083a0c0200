"""What machines that ask are told, and what is remembered of them."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import Any

import pytest

from builder.core.errors import UserError
from builder.serve import view
from builder.serve.identity import Identity
from builder.serve.progress import Report, parse_report
from builder.serve.records import Record, Store
from builder.serve.tokens import GRANT_S, LIFETIME_S, Tokens
from imgnode.install.order import parse_order
from tests.unit.provision_desk import MAC, OTHER, UUID, Room, room, who

GPU07, GPU08 = who("S7", "", MAC), who("S8")


@pytest.fixture
def made(tmp_path: Path) -> Room:
    return room(tmp_path)


def _key(order: dict[str, Any]) -> str:
    return str(order["report"]).rpartition("/")[2]


def _said(phase: str, **more: object) -> Report:
    body = {"schema_version": 1, "node": {}, "phase": phase, "error": None, **more}
    found = parse_report(json.dumps(body).encode())
    assert found
    return found


def _row(made: Room, name: str) -> view.Row:
    return next(one for one in view.rows(made.desk) if one.name == name)


def test_the_installer_understands_its_order(made: Room) -> None:
    order = parse_order(json.dumps(made.ask(GPU07)))
    assert order.releases == "http://10.9.0.1/releases"
    assert (order.image_id, order.channel, order.wipe) == ("imgbuild-cpu", "stable", False)
    assert order.seed == {"user-data": "plain of gpu-07"}
    assert str(order.report).startswith("http://10.9.0.1/progress/gpu-07/")
    assert _row(made, "gpu-07").state == "ordered"


def test_an_unknown_machine_waits_until_it_is_in_the_plan(made: Room) -> None:
    assert made.refused(who("X", UUID.replace("4", "a"), OTHER)).status == 404
    assert made.refused(Identity()).status == 404
    names = {one.name: one for one in made.desk.store.waiting()}
    assert set(names) == {UUID.replace("4", "a"), "at-10-9-0-50"}
    made.clock.now += 60
    made.refused(who("X", UUID.replace("4", "a")))
    assert _row(made, UUID.replace("4", "a")).started == made.clock.now - 60
    assert made.desk.boots(who("X"), "10.9.0.50")  # to tell who it is; nothing is done to it


def test_a_machine_that_could_be_two_waits_and_is_told_why(made: Room) -> None:
    refusal = made.refused(who("S8", UUID))
    assert refusal.status == 404
    assert "gpu-08" in refusal.text
    assert "gpu-09" in refusal.text


def test_the_list_of_those_who_wait_does_not_grow_without_end(made: Room) -> None:
    made.desk.store.wait(Record(name="oldest", state="waiting", seen=1.0))
    for number in range(505):
        made.desk.store.wait(Record(name=f"x{number}", state="waiting", seen=2.0 + number))
    names = {one.name for one in made.desk.store.waiting()}
    assert len(names) == 500
    assert "oldest" not in names
    assert "x504" in names


def test_progress_from_order_to_done(made: Room) -> None:
    key = _key(made.ask(GPU07))
    for count in (0, 100, 200):
        made.clock.now += 2
        assert made.desk.report("gpu-07", key, _said("root.erofs", done=count, total=400))
    row = _row(made, "gpu-07")
    assert (row.state, row.percent, row.rate) == ("installing", 50, 50)
    made.clock.now += 61
    assert _row(made, "gpu-07").silent
    key = _key(made.ask(GPU07))  # cut off, and asks again
    assert _row(made, "gpu-07").state == "installing"
    assert made.desk.report("gpu-07", key, _said("failed", error={"kind": "disk", "text": "no"}))
    assert (_row(made, "gpu-07").state, _row(made, "gpu-07").why) == ("failed", "disk: no")
    assert made.desk.boots(GPU07, "")
    assert made.desk.report("gpu-07", key, _said("done", version="2"))
    assert (_row(made, "gpu-07").state, _row(made, "gpu-07").version) == ("done", "2")
    assert not made.desk.boots(GPU07, "")
    assert made.refused(GPU07).status == 409
    assert made.desk.report("gpu-07", key, _said("root.erofs"))  # late: changes nothing
    assert _row(made, "gpu-07").state == "done"
    made.desk.again("gpu-07")
    assert _row(made, "gpu-07").state == "expected"
    assert _key(made.ask(GPU07)) != key


def test_only_who_has_the_order_reports(made: Room) -> None:
    key = _key(made.ask(GPU07))
    assert not made.desk.report("gpu-07", f"{key}x", _said("done"))
    assert not made.desk.report("gpu-07", "", _said("done"))
    assert not made.desk.report("gpu-08", "", _said("done"))
    assert not made.desk.report("nobody", key, _said("done"))


@pytest.mark.parametrize(
    "data",
    [
        b"", b"[]", b"{}", b'{"schema_version": 2, "phase": "x"}', b"\xff",
        b'{"schema_version": 1, "phase": "<script>"}',
        b'{"schema_version": 1, "phase": "x", "done": -1}',
        b'{"schema_version": 1, "phase": "x", "error": 5}',
    ],
)  # fmt: skip
def test_what_is_no_report_is_refused(data: bytes) -> None:
    assert parse_report(data) is None


def test_what_an_installer_says_cannot_move_the_terminal(made: Room) -> None:
    key = _key(made.ask(GPU07))
    error = {"kind": "x\x1b[2J", "text": "a\nb\x07" + "c" * 5000}
    assert made.desk.report("gpu-07", key, _said("failed", error=error, disk="d\x1b"))
    row = _row(made, "gpu-07")
    assert (row.why + row.disk).isprintable()
    assert len(row.why) < 2100


def test_a_token_is_good_for_one_installation_of_one_machine(made: Room) -> None:
    assert made.refused(GPU08).status == 403
    assert _row(made, "gpu-08").state == "held"
    first, token = made.desk.token("gpu-08"), made.desk.token("gpu-08")
    for wrong in (first, "x", f"{token}x", "é"):
        assert "wrong" in made.refused(GPU08, wrong).text
    order = made.ask(GPU08, token)
    assert order["seed"] == {"user-data": "secret of gpu-08"}
    assert made.ask(GPU08, token)["report"] == order["report"]
    assert made.desk.report("gpu-08", _key(order), _said("done"))
    made.desk.again("gpu-08")
    assert "was used" in made.refused(GPU08, token).text
    assert token not in (made.folder / "tokens/gpu-08.json").read_text()


def test_a_machine_that_was_looked_at_needs_no_token(made: Room) -> None:
    seen = who("S8", UUID.replace("4", "a"), OTHER)
    with pytest.raises(UserError, match="gpu-08: no machine is held as this node"):
        made.desk.allow("gpu-08")
    assert made.refused(seen).status == 403
    assert made.desk.allow("gpu-08") == seen
    assert made.refused(who("S8")).status == 403  # knows a part of it
    assert made.refused(seen, "guess").status == 403
    order = made.ask(seen)
    assert made.ask(seen)["report"] == order["report"]
    assert made.desk.report("gpu-08", _key(order), _said("done"))
    made.desk.again("gpu-08")
    assert made.refused(seen).status == 403
    made.desk.allow("gpu-08")
    made.clock.now += GRANT_S
    assert made.refused(seen).status == 403


def test_who_is_refused_does_not_disturb_an_installation(made: Room) -> None:
    token = made.desk.token("gpu-08")
    key = _key(made.ask(GPU08, token))
    made.desk.report("gpu-08", key, _said("root.erofs", done=1, total=2))
    assert made.refused(who("S8", "", OTHER)).status == 403
    row = _row(made, "gpu-08")
    assert (row.state, row.macs) == ("installing", ())
    made.clock.now += 61
    assert made.refused(who("S8", "", OTHER)).status == 403
    assert _row(made, "gpu-08").state == "held"
    assert made.desk.report("gpu-08", key, _said("root.erofs", done=2, total=2))
    assert _row(made, "gpu-08").state == "installing"


def test_a_token_is_bound_to_the_machine_and_grows_old(tmp_path: Path) -> None:
    tokens = Tokens(tmp_path)
    token = tokens.make("a", 1000.0)
    assert tokens.judge("a", token, who("S1", UUID), 1001.0) is None
    assert tokens.judge("a", token, who("S1"), 1001.0) is None
    assert "another machine" in str(tokens.judge("a", token, who("S2"), 1001.0))
    assert "too old" in str(tokens.judge("a", token, who("S1"), 1000.0 + LIFETIME_S))
    assert tokens.judge("b", token, who("S1"), 1001.0) == "the token is wrong"


def test_a_plan_can_ask_for_a_token_or_do_without(tmp_path: Path) -> None:
    nodes = {
        "a": {"serial": "A", "seed": "plain", "token": True},
        "b": {"serial": "B", "seed": "secret", "token": False},
    }
    made = room(tmp_path, nodes)
    assert made.refused(who("A")).status == 403
    assert made.ask(who("B"))["seed"]


def test_a_bad_seed_or_another_version_is_held(made: Room) -> None:
    assert made.refused(who("", UUID)).text == "bad.yaml: hostname: is no name"
    assert "has no version" in made.refused(who("S10")).text
    made.versions["imgbuild-cpu"] = "1"
    assert made.refused(who("S10")).text == "channel stable is at 1, gpu-10 wants 2"
    made.versions["imgbuild-cpu"] = "2"
    assert made.ask(who("S10"))["channel"] == "stable"


def test_names_that_are_none_are_told(made: Room) -> None:
    for act in (made.desk.again, made.desk.token, made.desk.allow):
        with pytest.raises(UserError, match="nobody: is not in the inventory"):
            act("nobody")


def test_all_is_there_after_a_kill_and_for_the_owner_alone(made: Room) -> None:
    key = _key(made.ask(GPU07))
    made.desk.report("gpu-07", key, _said("root.erofs", done=1, total=4))
    made.refused(who("X"))
    back = Store(made.folder)
    assert back.node("gpu-07") == made.desk.store.node("gpu-07")
    assert [one.name for one in back.waiting()] == ["X"]
    assert back.admin_token() == made.desk.store.admin_token()
    for path in ("nodes/gpu-07.json", "waiting/X.json", "admin-token"):
        assert stat.S_IMODE((made.folder / path).stat().st_mode) == 0o600
    assert stat.S_IMODE((made.folder / "nodes").stat().st_mode) == 0o700


def test_progress_within_a_phase_is_written_every_ten_seconds(made: Room) -> None:
    key = _key(made.ask(GPU07))
    made.desk.report("gpu-07", key, _said("root.erofs", done=1, total=100))
    for count in (2, 3, 4):
        made.clock.now += 2
        made.desk.report("gpu-07", key, _said("root.erofs", done=count, total=100))
    assert made.desk.store.node("gpu-07").done == 4
    assert Store(made.folder).node("gpu-07").done == 1
    made.clock.now += 5
    made.desk.report("gpu-07", key, _said("root.erofs", done=9, total=100))
    assert Store(made.folder).node("gpu-07").done == 9


def test_a_file_that_another_program_changed_is_read_anew(made: Room) -> None:
    made.ask(GPU07)
    path = made.folder / "nodes/gpu-07.json"
    Store(made.folder).put(Record(name="gpu-07", state="done"))
    os.utime(path, ns=(1, 1))
    assert _row(made, "gpu-07").state == "done"
    path.write_text("{")
    with pytest.raises(UserError, match="move it away"):
        made.desk.store.node("gpu-07")


def test_those_that_need_somebody_come_first(made: Room) -> None:
    made.ask(GPU07)
    made.refused(GPU08)
    made.refused(who("X"))
    found = view.rows(made.desk)
    assert [one.state for one in found] == ["held", "waiting", "ordered", "expected", "expected"]
    assert view.counts(found) == {"held": 1, "waiting": 1, "ordered": 1, "expected": 2}
    assert "key" not in view.as_json(found)[0]
