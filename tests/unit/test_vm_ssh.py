"""The SSH configuration, and how failed attempts are judged."""

from __future__ import annotations

from pathlib import Path

import pytest

from builder.core.process import Runner
from builder.vm import ssh as room
from builder.vm.errors import HostKeyChanged, VmTimeout
from builder.vm.process import Captured
from builder.vm.ssh import Ssh, SshKey, ssh_config


def answering(monkeypatch: pytest.MonkeyPatch, answer: Captured | None) -> list[list[str]]:
    """Let every SSH command end with `answer`; return the list the commands go to."""
    seen: list[list[str]] = []

    def capture(_runner: Runner, argv: list[str], _timeout_s: float) -> Captured | None:
        seen.append(argv)
        return answer

    monkeypatch.setattr(room, "capture", capture)
    return seen


@pytest.fixture
def node(tmp_path: Path) -> Ssh:
    key = SshKey(tmp_path / "id_ed25519", "ssh-ed25519 AAA imgbuild")
    return Ssh(Runner(), tmp_path, port=2222, key=key)


def test_a_changed_host_key_is_refused_whatever_the_port() -> None:
    lines = [line.strip() for line in ssh_config(2222, Path("/k"), Path("/w/known")).splitlines()]
    assert lines[0] == "Host node"
    assert "StrictHostKeyChecking accept-new" in lines
    assert "HostKeyAlias node" in lines
    assert 'UserKnownHostsFile "/w/known"' in lines
    assert {"Port 2222", "User admin", "BatchMode yes", "ConnectTimeout 10"} <= set(lines)


def test_a_command_goes_through_the_configuration(
    node: Ssh, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = answering(monkeypatch, Captured(3, "out", "err"))
    assert node.run("exit 3") == Captured(3, "out", "err")
    assert seen == [["ssh", "-F", str(node.config), "node", "--", "exit 3"]]
    assert node.config.read_text().startswith("Host node\n")


def test_a_changed_host_key_has_an_error_of_its_own(
    node: Ssh, monkeypatch: pytest.MonkeyPatch
) -> None:
    answering(
        monkeypatch, Captured(255, "", "@ WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED! @")
    )
    with pytest.raises(HostKeyChanged):
        node.wait_ready(60)


def test_a_command_that_hangs(node: Ssh, monkeypatch: pytest.MonkeyPatch) -> None:
    answering(monkeypatch, None)
    with pytest.raises(VmTimeout, match="no end after 5 s"):
        node.run("sleep 60", timeout_s=5)


def test_waiting_ends_with_the_last_answer(node: Ssh, monkeypatch: pytest.MonkeyPatch) -> None:
    answering(monkeypatch, Captured(255, "", "Permission denied (publickey)"))
    monkeypatch.setattr(room, "_RETRY_S", 0.01)
    with pytest.raises(VmTimeout, match="Permission denied"):
        node.wait_ready(0.05)


def test_waiting_ends_when_the_node_answers(node: Ssh, monkeypatch: pytest.MonkeyPatch) -> None:
    answering(monkeypatch, Captured(0, "", ""))
    assert node.wait_ready(5) < 5
