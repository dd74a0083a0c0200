"""A node that was flashed anew: when it takes its state back, once, and what a failure costs."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path

import pytest

from imgnode.backup import firstboot, targets
from imgnode.backup.trouble import Trouble
from tests.restserver import RestServer
from tests.unit.backup_node import STATE, Node, play, remote

pytestmark = pytest.mark.allow_commands("restic")


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give what a server holds of a node that has lived."""
    with pytest.MonkeyPatch.context() as patch, RestServer(tmp_path_factory.mktemp("kept")) as far:
        node = play(tmp_path_factory.mktemp("made") / "node", patch)
        node.seed(**remote(far.port))
        assert node.back_up() == []
        return far.folder


@pytest.fixture
def server(tmp_path: Path, kept: Path) -> RestServer:
    shutil.copytree(kept, tmp_path / "server")
    return RestServer(tmp_path / "server")


@pytest.fixture
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Node:
    """Give a node that was flashed a moment ago."""
    monkeypatch.setattr(time, "sleep", lambda _: None)
    node = play(tmp_path / "node", monkeypatch)
    monkeypatch.setattr(firstboot, "run", lambda argv, **_: node.ran.append(argv))
    node.wipe()
    return node


def settled(node: Node) -> str:
    return str(json.loads(node.read("backup/settled.json"))["state"])


def test_it_is_the_old_node_again(node: Node, server: RestServer) -> None:
    with server:
        node.seed(**remote(server.port, restore="latest"))
        node.boot()
        for name, text in STATE.items():
            assert node.read(name) == text
        live = node.root / "etc/ssh/ssh_host_ed25519_key"
        assert live.read_text() == "the old key\n"
        assert ["systemctl", "try-restart", "ssh.service"] in node.ran
        assert node.ran[-1] == ["systemctl", "restart", "imgnode-seed.service"]
        assert settled(node) == "brought back: seed, model, etc, gate, update"
        node.write("model/proven.json", "{}")
        node.boot()
        assert node.read("model/proven.json") == "{}"  # once in the life of a /var


def test_the_present_seed_is_newer_than_the_kept_one(node: Node, server: RestServer) -> None:
    node.write("seed/good/user-data", "the present one")
    with server:
        node.seed(**remote(server.port, restore="latest"))
        node.boot()
    assert node.read("seed/good/user-data") == "the present one"
    assert settled(node) == "brought back: model, etc, gate, update"
    assert ["systemctl", "restart", "imgnode-seed.service"] not in node.ran


def test_a_power_cut_in_the_middle_is_made_good(node: Node, server: RestServer) -> None:
    with server:
        node.seed(**remote(server.port, restore="latest"))
        node.write("backup/settled.json", '{"state": "begun"}')
        node.write("gate/history.json", "[]")  # brought back before the cut
        node.boot()
    assert "a/b" in node.read("model/proven.json")


@pytest.mark.parametrize("wish", [{"restore": "never"}, {}])
def test_it_is_left_alone_unless_the_seed_says_so(node: Node, wish: dict[str, str]) -> None:
    node.seed(**remote(1, **wish))
    node.boot()
    assert settled(node) == "nothing was brought back: the seed does not ask for it"
    assert node.ran == []


def test_a_node_that_has_lived_is_left_alone(node: Node) -> None:
    node.write("gate/history.json", "[]")
    node.seed(**remote(1, restore="latest"))
    node.boot()
    assert settled(node) == "nothing was brought back: this /var has been in use"


def test_a_new_node_has_nothing_to_bring_back(node: Node, tmp_path: Path) -> None:
    with RestServer(tmp_path / "empty") as server:
        node.seed(**remote(server.port, restore="latest"))
        node.boot()
    assert settled(node).startswith("nothing was brought back: remote: unable to open config")
    assert 'imgnode_backup_error{kind="missing"} 0' in node.metrics()


def test_a_remote_that_comes_up_late_is_waited_for(
    node: Node, server: RestServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries: list[object] = []

    def late(where: object) -> None:
        tries.append(where)
        if len(tries) <= 3:
            raise Trouble("reach", "remote: does not answer")

    monkeypatch.setattr(targets, "reach", late)
    with server:
        node.seed(**remote(server.port, restore="latest"))
        node.boot()
    assert settled(node).startswith("brought back: ")
    assert len(tries) == 4


def test_a_remote_that_stays_away_is_told_and_costs_no_boot(
    node: Node, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def gone(_: object) -> None:
        raise Trouble("reach", "remote: does not answer")

    monkeypatch.setattr(targets, "reach", gone)
    node.seed(**remote(1, restore="latest"))
    node.boot()
    assert settled(node) == "failed: remote: does not answer"
    told = capsys.readouterr().err
    assert "<3>backup: nothing was brought back: remote: does not answer\n" in told
    assert 'imgnode_backup_error{kind="reach"} 1' in node.metrics()
    assert node.remembered()["errors"]["restore"]["kind"] == "reach"
    assert sum(firstboot._WAITS_S) < 180


def test_a_remote_that_hangs_is_not_asked_for_ever(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries: list[object] = []

    def hang(where: object) -> None:
        tries.append(where)
        raise Trouble("reach", "remote: no end after 300 s")

    monkeypatch.setattr(targets, "reach", hang)
    monkeypatch.setattr(firstboot, "_now", lambda: 300.0 * len(tries))
    node.seed(**remote(1, restore="latest"))
    node.boot()
    assert len(tries) == 1
    assert settled(node).startswith("failed: ")


def test_metrics_are_there_at_every_boot(node: Node) -> None:
    node.boot()
    (node.root / "run/imgnode/metrics/backup.prom").unlink()
    node.boot()
    assert "imgnode_backup_bytes 0\n" in node.metrics()
