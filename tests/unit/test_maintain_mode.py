"""Maintenance mode: what it writes, when it ends, and what comes after a reboot."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from imgnode import cli, process
from imgnode.commands import maintenance as command
from imgnode.maintain import mode
from imgnode.maintain.mode import KEPT, NOW, Mode
from tests.unit import serve_node


class Node:
    """A node whose programs are played."""

    def __init__(self, root: Path) -> None:
        self.root = serve_node.make(root)
        self.calls: list[list[str]] = []
        self.rules: list[str] = []
        self.refused = ""

    def run(self, argv: list[str], *, timeout_s: float, stdin: str = "") -> process.Finished:  # noqa: ARG002
        self.calls.append(list(argv))
        if argv[:2] == ["nft", "-f"]:
            self.rules.append(stdin)
        if argv[:3] == ["nft", "delete", "table"]:
            self.rules.clear()
        rc = int(argv[0] == self.refused)
        return process.Finished(rc, "", "no such thing\n" * rc)

    def called(self, program: str) -> list[list[str]]:
        return [call for call in self.calls if call[0] == program]

    def metric(self) -> str:
        return (self.root / "run/imgnode/metrics/maintenance.prom").read_text().splitlines()[-1]


@pytest.fixture
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Node:
    made = Node(tmp_path)
    monkeypatch.setattr(process, "run", made.run)
    monkeypatch.setattr("imgnode.update.drain.requests", lambda _: 0)
    monkeypatch.setattr(command, "_ROOT", tmp_path)
    return made


def given(**changes: Any) -> Mode:  # noqa: ANN401
    values: dict[str, Any] = {"since": 1.0, "until": None, "reason": "disk", "keep": False}
    return Mode(**{**values, **changes})


def test_it_is_told_to_everybody_and_refuses_requests(node: Node) -> None:
    assert mode.read(node.root) is None
    assert mode.begin(given(), 1, print, node.root)
    assert json.loads((node.root / NOW).read_text())["reason"] == "disk"
    assert mode.read(node.root) == given()
    assert "tcp dport 8000" in node.rules[0]
    assert node.metric() == "imgnode_maintenance 1"
    assert not (node.root / KEPT).exists()
    assert mode.end(node.root)
    assert mode.read(node.root) is None
    assert node.rules == []
    assert node.metric() == "imgnode_maintenance 0"
    assert not mode.end(node.root)


def test_requests_that_do_not_end_are_told(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("imgnode.update.drain.requests", lambda _: 3)
    assert not mode.begin(given(), 0, print, node.root)
    assert mode.read(node.root) == given()


def test_it_ends_by_systemds_clock(node: Node) -> None:
    until = time.time() + 7200
    mode.begin(given(until=until), 1, print, node.root)
    (started,) = node.called("systemd-run")
    assert f"--on-calendar=@{int(until)}" in started
    assert started[-3:] == ["/usr/bin/imgnode", "maintenance", "off"]
    mode.begin(given(), 1, print, node.root)  # a second one without an end forgets the first's
    assert len(node.called("systemd-run")) == 1
    assert node.calls.count(["systemctl", "stop", "imgnode-maintenance-end.timer"]) == 2


def test_nothing_begins_that_would_not_end(node: Node) -> None:
    node.refused = "systemd-run"
    with pytest.raises(OSError, match="no such thing"):
        mode.begin(given(until=time.time() + 60, keep=True), 1, print, node.root)
    assert mode.read(node.root) is None
    assert not (node.root / KEPT).exists()
    assert node.rules == []


def test_one_whose_time_is_over_counts_no_more(node: Node) -> None:
    mode.begin(given(until=time.time() - 1), 1, print, node.root)
    assert mode.read(node.root) is None


def test_a_damaged_file_counts(node: Node) -> None:
    (node.root / NOW).parent.mkdir(parents=True, exist_ok=True)
    (node.root / NOW).write_text("{")
    found = mode.read(node.root)
    assert found is not None
    assert found.until is None


def reboot(node: Node) -> None:
    (node.root / NOW).unlink()
    node.rules.clear()


def test_it_comes_back_after_a_reboot_where_asked_for(node: Node) -> None:
    kept = given(keep=True, until=time.time() + 3600)
    mode.begin(kept, 1, print, node.root)
    reboot(node)
    assert mode.bring_back(node.root) == kept
    assert mode.read(node.root) == kept
    assert len(node.rules) == 1
    assert len(node.called("systemd-run")) == 2


def test_it_does_not_come_back_when_its_time_is_over(node: Node) -> None:
    mode.begin(given(keep=True, until=time.time() - 1), 1, print, node.root)
    reboot(node)
    assert mode.bring_back(node.root) is None
    assert not (node.root / KEPT).exists()
    assert node.rules == []


def test_another_one_without_keep_forgets_the_kept_one(node: Node) -> None:
    mode.begin(given(keep=True), 1, print, node.root)
    mode.begin(given(), 1, print, node.root)
    assert not (node.root / KEPT).exists()


def test_the_commands(node: Node, capsys: pytest.CaptureFixture[str]) -> None:
    cli.main(["maintenance", "on", "--for", "2h", "--reason", "fans\n", "--keep"])
    assert "ON until" in capsys.readouterr().out
    found = json.loads((node.root / NOW).read_text())
    assert found["until"] - found["since"] == 7200
    assert (found["reason"], found["keep"]) == ("fans?", True)
    with pytest.raises(SystemExit) as ended:
        cli.main(["maintenance", "status"])
    assert ended.value.code == 0
    assert "(fans?)" in capsys.readouterr().out
    cli.main(["maintenance", "off"])
    with pytest.raises(SystemExit) as ended:
        cli.main(["maintenance", "status", "--json"])
    assert ended.value.code == 1
    assert capsys.readouterr().out.endswith("null\n")


@pytest.mark.parametrize("span", ["2", "0h", "-1h", "2 h", "1w", "9999d", "h", "1.5h"])
def test_what_is_no_span_is_refused(span: str, node: Node) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(["maintenance", "on", "--for", span])
    assert ended.value.code == 2
    assert mode.read(node.root) is None
