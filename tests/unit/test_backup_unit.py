"""What the units of backups must keep to, and what `imgnode backup` says."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from imgnode import cli
from imgnode.backup import report, restic, take
from imgnode.backup.restic import Snapshot
from imgnode.backup.trouble import Trouble
from imgnode.commands import backup
from imgnode.nodeconfig import NodeConfig, write_node
from tests.unit.backup_node import Node, play, remote

ROOT = Path(__file__).parents[2]
UNITS = ROOT / "overlays/backup/usr/lib/systemd/system"
WORKERS = ("imgnode-backup", "imgnode-backup-verify", "imgnode-restore")


def values(key: str, name: str) -> list[str]:
    lines = (UNITS / f"{name}.service").read_text().splitlines()
    pairs = [line.split("=", 1) for line in lines if "=" in line and line[0] != "#"]
    return [word for known, value in pairs if known == key for word in value.split()]


@pytest.mark.parametrize("name", WORKERS[:2])
def test_a_failed_backup_never_counts_as_a_failed_unit(name: str) -> None:
    """The gate takes failed units of the image for the image's fault (systemd.service(5))."""
    assert values("Restart", name) == ["on-failure"]
    assert values("StartLimitIntervalSec", name) == ["0"]
    assert values("RestartMaxDelaySec", name) == ["1h"]


def test_a_failed_restore_stops_no_boot() -> None:
    name = "imgnode-restore"
    assert values("ExecStart", name)[0] == "-/usr/bin/imgnode"
    assert values("DefaultDependencies", name) == ["no"]
    assert {"vllm.service", "imgnode-gate.service"} <= set(values("Before", name))
    assert {"cloud-init.service", "imgnode-seed.service"} <= set(values("After", name))


@pytest.mark.parametrize("name", WORKERS)
def test_it_is_held_to_little_memory_and_gets_its_secrets(name: str) -> None:
    assert values("MemoryMax", name) == ["256M"]
    assert values("ImportCredential", name) == ["imgnode.*"]
    assert values("UMask", name) == ["0077"]


def test_the_timers_are_on() -> None:
    preset = (ROOT / "units/system-preset/00-imgnode.preset").read_text().splitlines()
    for unit in ("imgnode-backup.timer", "imgnode-backup-verify.timer", "imgnode-restore.service"):
        assert f"enable {unit}" in preset


@pytest.fixture
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Node:
    node = play(tmp_path / "node", monkeypatch)
    monkeypatch.setattr(backup, "_ROOT", node.root)
    return node


def call(*words: str) -> int:
    with pytest.raises(SystemExit) as ended:
        cli.main(["backup", *words])
    assert isinstance(ended.value.code, int)
    return ended.value.code


def test_a_person_who_asks_wrongly_is_told(node: Node, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("restore", "--from", "remote") == 2
    assert "remote: the seed names no remote (hint: there is: local)" in capsys.readouterr().err
    (node.root / "full").mkdir()
    (node.root / "full/file").touch()
    assert call("restore", "--to", str(node.root / "full")) == 2
    assert "is not an empty folder (hint: " in capsys.readouterr().err
    (node.root / "usr/lib/imgnode/backup.conf").unlink()
    assert call("list") == 2
    assert "this image makes no backups (hint: " in capsys.readouterr().err


@pytest.mark.allow_commands("restic")
def test_a_call_from_end_to_end(node: Node, capsys: pytest.CaptureFixture[str]) -> None:
    cli.main(["backup", "list"])
    assert capsys.readouterr().out == "local: no backups\n"
    cli.main(["backup", "now"])
    name = capsys.readouterr().out.split()[2]
    cli.main(["backup", "list"])
    assert capsys.readouterr().out.startswith(f"{name}  20")
    cli.main(["backup", "restore", name, "--to", str(node.root / "there")])
    assert (node.root / "there/gate/history.json").read_text() == "[]"
    node.write("model/proven.json", "{}")
    cli.main(["backup", "restore", "--config"])
    told = capsys.readouterr().out
    assert "  model    brought back; what was there: " in told
    assert told.endswith("to serve by it: sudo systemctl restart vllm\n")
    assert call("restore", "00000000") == 2
    assert "no backup 00000000 (hint: imgnode backup list)" in capsys.readouterr().err


def test_no_secret_is_left_behind(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    node.seed(**remote(1))
    seen: list[Path] = []

    def fail(_: object, *__: object) -> list[Snapshot]:
        seen.extend((node.root / "run/imgnode/backup").glob("*"))
        raise Trouble("restic", "no")

    monkeypatch.setattr(restic, "snapshots", fail)
    assert call("list") == 1
    assert seen
    assert not (node.root / "run/imgnode/backup").exists()


def test_one_run_at_a_time(node: Node, capsys: pytest.CaptureFixture[str]) -> None:
    secret = node.root / "run/imgnode/backup/key"
    secret.parent.mkdir()
    secret.touch()
    with take.alone(node.root):
        assert call("now") == 1
    assert secret.exists()  # of the other run
    assert "busy: another run of imgnode backup goes on" in capsys.readouterr().err


def test_status_says_when_and_what_went_wrong(tmp_path: Path) -> None:
    assert report.lines(report.read(tmp_path)) == ["backup   none yet"]
    report.made("local", 1_700_000_000, tmp_path)
    report.failed("remote", Trouble("reach", "does not answer"), tmp_path)
    assert report.lines(report.read(tmp_path)) == [
        "backup   local 2023-11-14 22:13 UTC",
        "backup   FAILED (remote, reach): does not answer",
    ]
    report.settle(("local",), 4096, tmp_path)  # the seed names no remote any more
    assert report.read(tmp_path)["errors"] == {}
    report.verified(tmp_path)
    assert "; verified 20" in report.lines(report.read(tmp_path))[0]
    text = (tmp_path / "run/imgnode/metrics/backup.prom").read_text()
    assert 'imgnode_backup_last_success_timestamp_seconds{target="local"} 1700000000\n' in text
    assert "imgnode_backup_bytes 4096\n" in text


def test_a_state_that_is_damaged_starts_anew(tmp_path: Path) -> None:
    write_node(NodeConfig(), [], tmp_path)
    path = tmp_path / "var/lib/imgnode/backup/state.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps([]))
    assert report.lines(report.read(tmp_path)) == ["backup   none yet"]
