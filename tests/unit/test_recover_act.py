"""Repairing config and resetting GPUs; and what the units that do it must keep to."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from imgnode import cli
from imgnode.commands import recover as command
from imgnode.gate import quarantine, systemd
from imgnode.process import Finished
from imgnode.recover import act, byhand, history, holds, report, steps
from imgnode.recover.state import State
from imgnode.serve import choice
from imgnode.serve.plan import read_plan
from tests.unit import serve_node

ROOT = Path(__file__).parents[2]
UNIT = (ROOT / "units/system/imgnode-recover@.service").read_text()
PROVEN = {"model": serve_node.MODEL}
WANTED = {"model": "org/new"}


class Programs:
    """Notes what would run; what is in `bad` fails."""

    def __init__(self, root: Path) -> None:
        self.root, self.ran, self.bad = root, list[str](), ""

    def run(self, argv: list[str], *, timeout_s: float) -> Finished:
        line = " ".join(argv).replace(f"{self.root}/", "/").replace(str(self.root), "/")
        self.ran.append(line)
        if line.startswith("mount "):
            serve_node.put(self.root / "run/imgnode/image-root/etc/docker/daemon.json", '{"a": 1}')
        failed = timeout_s <= 0 or (self.bad and self.bad in line)
        return Finished(1, "", "a reason") if failed else Finished(0, "", "")


@pytest.fixture
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Programs:
    serve_node.make(tmp_path, WANTED)
    serve_node.put(tmp_path / "etc/docker/daemon.json", "{}")
    found = Programs(tmp_path)
    monkeypatch.setattr(act, "run", found.run)
    monkeypatch.setattr(systemd, "act", lambda *words: found.ran.append(" ".join(words)))
    monkeypatch.setattr(command, "_ROOT", tmp_path)
    monkeypatch.setattr(act, "_BACKUP", tmp_path / "none")
    return found


def test_the_config_that_last_made_a_token_serves(node: Programs) -> None:
    choice.save_proven(PROVEN, 1, "x_1", node.root)
    assert act.act("repair-config", node.root) == [
        f"{serve_node.MODEL} serves as it did last, until imgnode model retry"
    ]
    plan = read_plan(node.root)
    assert plan is not None
    assert plan.choice.in_force == PROVEN
    assert plan.choice.fallback
    with pytest.raises(act.NotDone, match="no such step"):
        act.act("reset-everything", node.root)


def test_nothing_to_repair_is_told(node: Programs) -> None:
    choice.save_proven(WANTED, 1, "x_1", node.root)
    with pytest.raises(act.NotDone, match="in force already"):
        act.act("repair-config", node.root)
    assert node.ran == []


def test_a_damaged_result_of_the_seed_is_made_anew(node: Programs) -> None:
    serve_node.put(node.root / "run/imgnode/node.json", "{")
    monkeypatch = pytest.MonkeyPatch()
    with monkeypatch.context() as patch:
        patch.setattr(act, "_proven", lambda _: None)
        assert act.repair_config(node.root) == ["the seed was judged anew"]
    assert node.ran == ["systemctl restart imgnode-seed.service"]


@pytest.mark.parametrize("text", ["{", ""])
def test_dockers_config_comes_back_from_the_image(node: Programs, text: str) -> None:
    choice.save_proven(WANTED, 1, "x_1", node.root)
    serve_node.put(node.root / "etc/docker/daemon.json", text)
    assert act.act("repair-config", node.root) == [
        "/etc/docker/daemon.json is the image's own again"
    ]
    assert (node.root / "etc/docker/daemon.json").read_text() == '{"a": 1}'
    assert node.ran == ["mount --bind / /run/imgnode/image-root", "umount /run/imgnode/image-root"]


def test_without_a_proven_config_the_backup_is_asked(
    node: Programs, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(act.NotDone):
        act.act("repair-config", node.root)
    monkeypatch.setattr(act, "_BACKUP", Path(__file__))
    assert act.act("repair-config", node.root) == ["config and state came from the backup"]
    assert node.ran == ["imgnode backup restore --config"]


def test_who_holds_a_gpu_is_stopped_and_started_again(node: Programs) -> None:
    node.bad = "exporter"  # it does not run
    assert act.act("reset-gpu:0:3", node.root) == ["GPU 0, 3 was reset"]
    assert node.ran[2:] == [
        "systemctl stop nvidia-persistenced.service",
        "nvidia-smi --gpu-reset -i 0,3",
        "systemctl start nvidia-persistenced.service",
        "systemctl restart imgnode-gpu.service",
    ]
    node.bad = "gpu-reset"
    with pytest.raises(act.NotDone, match="a reason"):
        act.act("reset-gpu:0", node.root)
    assert node.ran[-1].startswith("systemctl start nvidia-persistenced.service")


@pytest.mark.parametrize("word", ["reset-gpu", "reset-gpu:", "reset-gpu:x", "repair-config:1", "a"])
def test_a_wrong_instance_is_refused(node: Programs, word: str) -> None:
    with pytest.raises(act.NotDone):
        act.act(word, node.root)
    assert node.ran == []


def test_the_unit_can_do_it() -> None:
    assert "ExecStart=/usr/bin/imgnode recover act %i\n" in UNIT
    assert "PrivateMounts=yes\n" in UNIT
    for word in ("PrivateDevices", "DeviceAllow", "ProtectClock", "Install", "ProtectSystem"):
        assert word not in UNIT.replace("# ", "")
    limit = int(UNIT.partition("TimeoutStartSec=")[2].split()[0])
    assert limit < steps._ACT_S


def test_alerts_are_above_the_login_prompt_and_may_need_a_credential() -> None:
    link = ROOT / "overlays/base/etc/issue.d/70-imgnode-alert.issue"
    assert link.readlink() == Path("/run/imgnode/alert.issue")
    health = (ROOT / "units/system/imgnode-health.service").read_text()
    assert "ImportCredential=imgnode.*\n" in health


# Commands.


def imgnode(*words: str) -> int:
    with pytest.raises(SystemExit) as ended:
        cli.main(["recover", *words])
    return int(ended.value.code or 0) if not isinstance(ended.value.code, str) else 1


def test_pause_and_resume(node: Programs, capsys: pytest.CaptureFixture[str]) -> None:
    assert imgnode("pause", "--for", "2h") == 0
    assert "recovery is paused until 20" in capsys.readouterr().out
    assert imgnode("status") == 0
    assert "paused until" in capsys.readouterr().out
    assert imgnode("pause") == 0
    assert holds.paused(1e12, node.root) == "paused until imgnode recover resume"
    assert imgnode("resume") == 0
    assert imgnode("resume") == 0
    assert capsys.readouterr().out.endswith("recovery was not paused\n")
    assert imgnode("pause", "--for", "soon") == 2


def test_quarantine_and_release(node: Programs, capsys: pytest.CaptureFixture[str]) -> None:
    assert imgnode("quarantine", "the  board\nsmells") == 0
    assert quarantine.read(node.root) == "the board smells"
    assert imgnode("status", "--json") == 0
    told = json.loads(capsys.readouterr().out.partition("{")[2].join(["{", ""]))
    assert told["quarantine"] == "the board smells"
    quarantine.lift(node.root)  # as the gate does
    assert quarantine.read(node.root) == "the board smells"
    assert imgnode("run") == 1
    assert imgnode("release") == 0
    assert quarantine.read(node.root) is None
    assert [one["event"] for one in history.read(node.root)] == ["quarantine", "release"]
    assert "start vllm.service" in node.ran


@pytest.mark.usefixtures("node")
def test_a_step_that_needs_more_says_so() -> None:
    assert imgnode("step", "restart-unit") == 2
    assert imgnode("step", "reset-gpu") == 2
    assert imgnode("step", "dance") == 2


@pytest.mark.usefixtures("node")
def test_a_step_says_how_it_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(byhand, "run_step", lambda *_: 124)
    assert imgnode("step", "stop-service") == 1


def test_status_says_what_was_done(node: Programs, capsys: pytest.CaptureFixture[str]) -> None:
    event = {"when": 1_790_000_000, "event": "step", "check": "serve", "key": "stalled"}
    history.add({**event, "step": "stop-service", "rc": 124}, node.root)
    report.write(report.Told(report.WAITING, "a model is loading: x"), State(), node.root)
    assert imgnode("status") == 0
    out = capsys.readouterr().out
    assert "recover  waiting: a model is loading: x\n" in out
    assert "2026-09-21 14:13:20  step       serve.stalled: stop-service (exit code 124)\n" in out
