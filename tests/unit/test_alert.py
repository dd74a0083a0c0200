"""Alerts: when they begin and end, who is told how often, and that no receiver can block."""

from __future__ import annotations

import dataclasses
import email
import json
import os
import sys
import threading
from collections.abc import Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest

from imgnode.alert import screens, send
from imgnode.alert.__main__ import main
from imgnode.alert.alert import Alert, of_finding
from imgnode.alert.batch import read_batch, write_batch
from imgnode.alert.book import FILE, Book
from imgnode.alert.channels import MAIL, SENDMAIL, WEBHOOK
from imgnode.alert.desk import Desk, status_lines
from imgnode.health.contract import Finding, Level, Remedy
from imgnode.health.report import MAINTENANCE
from imgnode.process import Finished
from tests.unit import serve_node

STALLED = Finding("serve", "stalled", Level.FAILED, "no token", "look", Remedy.SERVE)
SLOW = Finding("serve", "slow", Level.WARNING, "it is slow")
FINE = Finding("serve", "busy", Level.OK, "600 requests wait")
RECEIVER = "http://127.0.0.1:9"


class Child:
    def __init__(self, rc: int | None) -> None:
        self.rc, self.killed = rc, False

    def wait(self, *, timeout_s: float) -> int | None:
        assert timeout_s == 0
        return self.rc

    def kill(self) -> None:
        self.killed = True


class Stage:
    """A node with receivers, and children that send as they are told to."""

    def __init__(self, root: Path, *, mail: bool = False) -> None:
        serve_node.make(root, alerts={"receiver": RECEIVER, "mail": "ops@example.net"})
        if mail:
            serve_node.put(root / SENDMAIL, "")
        self.root, self.now, self.wall = root, 1000.0, 1_790_000_000.0
        self.rc: int | None = 0
        self.children: list[Child] = []
        self.sent: dict[str, list[list[Alert]]] = {WEBHOOK: [], MAIL: []}
        self.desk = self.new_desk()

    def new_desk(self) -> Desk:
        return Desk(self.root, self._begin, lambda: self.wall)

    def rounds(self, seconds: float, *findings: Finding) -> None:
        end = self.now + seconds
        while self.now < end:
            self.desk.consider(findings, self.now)
            self.now += 10
            self.wall += 10

    def told(self, channel: str = WEBHOOK) -> list[list[tuple[str, bool]]]:
        """Return what was sent: key of each alert, and whether it is over."""
        return [[(a.labels["key"], a.ends is not None) for a in one] for one in self.sent[channel]]

    def _begin(self, argv: Sequence[str]) -> Child:
        assert argv[:-2] == [sys.executable, "-P", "-m", "imgnode.alert"]
        self.sent[argv[-2]].append(read_batch(argv[-2], Path(argv[-1])))
        self.children.append(Child(self.rc))
        return self.children[-1]


@pytest.fixture(autouse=True)
def agetty(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    ran: list[str] = []
    monkeypatch.setattr(screens, "run", lambda argv, **_: ran.append(" ".join(argv)))
    monkeypatch.setattr(os, "fsync", lambda _: None)
    return ran


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    return Stage(tmp_path)


def test_what_failed_is_told_at_once_and_again_until_it_is_over(stage: Stage) -> None:
    stage.rounds(10, STALLED, FINE)
    assert stage.told() == [[("stalled", False)]]
    stage.rounds(230, STALLED)
    assert stage.told() == [[("stalled", False)]] * 2  # every two minutes
    stage.rounds(400)
    assert stage.told()[-1] == [("stalled", True)]
    assert len(stage.told()) <= 5
    before = len(stage.told())
    stage.rounds(3600)
    assert len(stage.told()) == before
    assert json.loads((stage.root / FILE).read_text())["alerts"] == []


def test_a_warning_must_last(stage: Stage) -> None:
    stage.rounds(250, SLOW)
    assert stage.told() == []
    stage.rounds(100, SLOW)
    assert stage.told() == [[("slow", False)]]


def test_one_that_flickers_is_one_alert(stage: Stage) -> None:
    for _ in range(20):
        stage.rounds(30, STALLED)
        stage.rounds(60)
    assert all(not over for batch in stage.told() for _, over in batch)
    assert len({one.starts for batch in stage.sent[WEBHOOK] for one in batch}) == 1


def test_a_dead_receiver_is_tried_less_and_less_and_told_in_the_end(stage: Stage) -> None:
    stage.rc = 1
    stage.rounds(7200, STALLED)
    assert 8 <= len(stage.told()) <= 11
    assert 'imgnode_alert_delivery_failures{channel="webhook"}' in metric(stage)
    assert any("does not take them" in line for line in status_lines(stage.root))
    stage.rounds(600)
    stage.rc = 0
    stage.rounds(3600)
    assert stage.told()[-1] == [("stalled", True)]
    assert 'imgnode_alert_delivery_failures{channel="webhook"} 0\n' in metric(stage)


def test_a_receiver_that_hangs_is_left_after_a_minute(stage: Stage) -> None:
    stage.rc = None
    stage.rounds(70, STALLED)
    assert [child.killed for child in stage.children] == [False]
    stage.rounds(20, STALLED)
    assert stage.children[0].killed


def test_what_is_not_told_yet_lives_over_a_restart(stage: Stage) -> None:
    stage.rc = 1
    stage.rounds(30, STALLED)
    stage.rc, stage.desk = 0, stage.new_desk()
    stage.rounds(20)
    assert stage.told()[-1] == [("stalled", False)]
    stage.rounds(200)
    assert stage.told()[-1] == [("stalled", True)]


@pytest.mark.parametrize("text", ["", "[]", '{"alerts": [{"alert": 1}]}', '{"alerts": 7}'])
def test_a_damaged_book_begins_anew(stage: Stage, text: str) -> None:
    serve_node.put(stage.root / FILE, text)
    stage.desk = stage.new_desk()
    stage.rounds(10, STALLED)
    assert stage.told() == [[("stalled", False)]]


def test_the_book_is_bounded(tmp_path: Path) -> None:
    book = Book(tmp_path)
    for number in range(300):
        book.fire(Alert({"n": str(number)}, {"summary": ""}, number))
        if number < 50:
            book.end(book.firing[-1].fingerprint, number)
    assert len(book._entries) == 100
    assert len(book.firing) == 100


def test_a_clock_that_was_set_back_does_not_silence(stage: Stage) -> None:
    stage.rounds(20, STALLED)
    stage.wall -= 30 * 86400
    stage.rounds(20, STALLED)
    assert len(stage.told()) == 2


def test_maintenance_is_silent(stage: Stage) -> None:
    serve_node.put(stage.root / MAINTENANCE, "")
    stage.rounds(600, STALLED)
    assert stage.told() == []
    (stage.root / MAINTENANCE).unlink()
    stage.rounds(10, STALLED)
    assert stage.told() == [[("stalled", False)]]


def test_mail_is_sent_once_where_there_is_a_sendmail(tmp_path: Path) -> None:
    stage = Stage(tmp_path, mail=True)
    stage.rounds(3600, STALLED)
    assert stage.told(MAIL) == [[("stalled", False)]]
    stage.rounds(300)
    assert stage.told(MAIL)[1:] == [[("stalled", True)]]


def test_screens_say_what_is_critical(stage: Stage, agetty: list[str]) -> None:
    stage.rounds(400, STALLED, SLOW)
    motd = (stage.root / screens.MOTD).read_text()
    assert motd == "alert: no token (hint: look)\n"
    assert (stage.root / screens.ISSUE).read_text() == f"{motd}\n"
    assert agetty == ["/sbin/agetty --reload"]
    assert 'imgnode_alerts_firing{severity="critical"} 1\n' in metric(stage)
    assert status_lines(stage.root)[0] == "alert    2 firing, 1 critical: no token"
    stage.rounds(300)
    assert not (stage.root / screens.MOTD).exists()
    assert len(agetty) == 2


def test_figures_that_change_write_nothing(stage: Stage, agetty: list[str]) -> None:
    stage.rounds(20, STALLED)
    kept = (stage.root / FILE).stat()
    for number in range(5):
        stage.rounds(10, dataclasses.replace(STALLED, fact=f"no token for {number} s"))
    assert (stage.root / FILE).stat().st_ino == kept.st_ino
    assert len(agetty) == 1
    assert "no token for 4 s" in status_lines(stage.root)[0]


def test_what_an_earlier_process_has_shown_goes(stage: Stage) -> None:
    stage.rounds(10, STALLED)
    stage.desk = stage.new_desk()
    stage.rounds(200)
    assert not (stage.root / screens.MOTD).exists()


def test_many_alerts_leave_room_for_a_login() -> None:
    told = screens.lines([Alert({}, {"summary": "x"}, 0)] * 9)
    assert len(told) == 6
    assert told[-1] == "alert: and 4 more: imgnode alert status"


def test_labels_do_not_change_with_the_figures() -> None:
    one = of_finding(Finding("disk", "space", Level.FAILED, "91 % full"), 1)
    other = of_finding(Finding("disk", "space", Level.FAILED, "92 % full", evidence={"x": 1}), 2)
    assert one.fingerprint == other.fingerprint
    assert one.labels["alertname"] == "ImgnodeDiskSpace"
    gpu = of_finding(Finding("gpu", "ecc_errors", Level.FAILED, "a\nb", gpus=(1, 2)), 1)
    assert (gpu.labels["alertname"], gpu.labels["gpu"]) == ("ImgnodeGpuEccErrors", "1,2")
    assert gpu.annotations["summary"] == "a b"


def metric(stage: Stage) -> str:
    return (stage.root / "run/imgnode/metrics/alert.prom").read_text()


# What leaves the node.


class Receiver(BaseHTTPRequestHandler):
    """Alertmanager's door; `said` is what came, `status` what it answers."""

    said: ClassVar[list[tuple[str, dict[str, str], Any]]] = []
    status = 200

    def do_POST(self) -> None:  # noqa: N802 - http.server's name for it
        text = self.rfile.read(int(self.headers["Content-Length"]))
        self.said.append((self.path, dict(self.headers), json.loads(text)))
        self.send_response(self.status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def receiver() -> Iterator[str]:
    Receiver.said, Receiver.status = [], 200
    listening = ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
    threading.Thread(target=listening.serve_forever, args=(0.05,), daemon=True).start()
    yield f"http://127.0.0.1:{listening.server_port}"
    listening.shutdown()
    listening.server_close()


def child(root: Path, receiver: str) -> int:
    """Send two alerts as the child does, by a process of its own."""
    serve_node.make(root, alerts={"receiver": receiver, "mail": None})
    over = Alert(
        {"alertname": "B", "instance": "n"}, {"summary": "b"}, 1_790_000_000, 1_790_000_060
    )
    firing = Alert({"alertname": "A", "instance": "n"}, {"summary": "a"}, 1_790_000_000)
    write_batch(WEBHOOK, [firing, over], root)
    from imgnode.process import run  # noqa: PLC0415

    return run([sys.executable, "-m", "imgnode.alert", WEBHOOK, str(root)], timeout_s=60).rc


@pytest.mark.allow_commands("python", "python3")
def test_an_alertmanager_gets_what_it_expects(tmp_path: Path, receiver: str) -> None:
    serve_node.put(tmp_path / "etc/credstore/imgnode.alert-auth", "Bearer abc\n")
    assert child(tmp_path, receiver) == 0
    path, headers, body = Receiver.said[0]
    assert path == "/api/v2/alerts"
    assert headers["Content-Type"] == "application/json"
    assert headers["Authorization"] == "Bearer abc"
    assert [set(one) for one in body] == [{"labels", "annotations", "startsAt", "endsAt"}] * 2
    assert body[1]["startsAt"] == "2026-09-21T14:13:20Z"
    assert body[1]["endsAt"] == "2026-09-21T14:14:20Z"
    assert body[0]["endsAt"] > body[0]["startsAt"]


@pytest.mark.allow_commands("python", "python3")
def test_one_that_refuses_is_a_failure(tmp_path: Path, receiver: str) -> None:
    Receiver.status = 500
    assert child(tmp_path, receiver) == 1
    assert child(tmp_path, "http://127.0.0.1:1") == 1


def test_an_address_may_be_whole_or_the_servers() -> None:
    assert send.address("http://am:9093") == "http://am:9093/api/v2/alerts"
    assert send.address("http://am/x/") == "http://am/x/api/v2/alerts"
    assert send.address("http://am/api/v2/alerts") == "http://am/api/v2/alerts"


def test_one_that_fires_ends_by_itself_when_the_node_is_gone() -> None:
    told = json.loads(send.body([Alert({}, {"summary": "a"}, 1_790_000_000)], 1_790_000_100))
    assert told[0]["endsAt"] == "2026-09-21T14:21:00Z"


def test_a_mail_names_the_node_and_cannot_be_led_astray(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    serve_node.make(tmp_path, alerts={"receiver": None, "mail": "ops@example.net"})
    ran: list[tuple[list[str], str]] = []

    def fake(argv: list[str], *, timeout_s: float, stdin: str) -> Finished:
        ran.append((argv, stdin))
        return Finished(0 if timeout_s < 60 else 1, "", "")

    monkeypatch.setattr(send, "run", fake)
    alert = of_finding(Finding("a", "b", Level.FAILED, "x\nBcc: evil@example.net"), 1_790_000_000)
    write_batch(MAIL, [alert], tmp_path)
    assert main(MAIL, tmp_path) == 0
    argv, text = ran[0]
    assert argv == ["/usr/sbin/sendmail", "-t", "-i"]
    mail = email.message_from_string(text)
    assert mail["To"] == "ops@example.net"
    assert mail["Bcc"] is None
    assert mail["Subject"] == f"[{os.uname().nodename}] alert: ImgnodeAB"
    assert mail["Auto-Submitted"] == "auto-generated"
    assert "critical: x Bcc: evil@example.net" in str(mail.get_payload())
