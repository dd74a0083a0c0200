"""What is kept of a failed test."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import pytest

from builder.vm.errors import VmTimeout
from builder.vm.keep import keep_evidence, keeping
from builder.vm.process import Captured
from builder.vm.qemu import VmPaths

if TYPE_CHECKING:
    from pathlib import Path

    from builder.vm.machine import Machine
    from builder.vm.ssh import Ssh


class FakeMachine:
    def __init__(self, work: Path, *, on: bool = True) -> None:
        self.paths = VmPaths(work)
        self._on = on
        self.paths.serial_log.write_text("console")

    def running(self) -> bool:
        return self._on


class FakeSsh:
    def __init__(self, answers: list[Captured | Exception]) -> None:
        self._answers = answers

    def run(self, _command: str, timeout_s: float) -> Captured:
        assert timeout_s > 0
        answer = self._answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


def machine(work: Path, *, on: bool = True) -> Machine:
    return cast("Machine", FakeMachine(work, on=on))


def node(*answers: Captured | Exception) -> Ssh:
    return cast("Ssh", FakeSsh(list(answers)))


def test_all_is_kept_when_the_node_answers(tmp_path: Path) -> None:
    ssh = node(Captured(0, "journal", ""), Captured(0, "<svg/>", ""))
    kept = keep_evidence(machine(tmp_path), ssh, tmp_path / "kept")
    assert [path.name for path in kept.files] == ["serial.log", "journal.txt", "boot.svg"]
    assert (tmp_path / "kept" / "boot.svg").read_text() == "<svg/>"
    assert kept.missing == ("qemu.log (never written)",)


def test_one_failed_login_is_enough(tmp_path: Path) -> None:
    kept = keep_evidence(machine(tmp_path), node(VmTimeout("slow")), tmp_path / "kept")
    assert [path.name for path in kept.files] == ["serial.log"]
    assert "journal.txt (slow)" in kept.missing


def test_one_failed_command_does_not_spoil_the_next(tmp_path: Path) -> None:
    ssh = node(Captured(1, "", "no journal"), Captured(0, "<svg/>", ""))
    kept = keep_evidence(machine(tmp_path), ssh, tmp_path / "kept")
    assert [path.name for path in kept.files] == ["serial.log", "boot.svg"]


def test_a_machine_that_is_off_is_not_asked(tmp_path: Path) -> None:
    kept = keep_evidence(machine(tmp_path, on=False), node(), tmp_path / "kept")
    assert "boot.svg (no SSH to the node)" in kept.missing


def test_the_error_says_where_the_evidence_is(tmp_path: Path) -> None:
    with pytest.raises(VmTimeout) as caught, keeping(machine(tmp_path), None, tmp_path / "kept"):
        raise VmTimeout("late")
    assert f"kept {tmp_path / 'kept' / 'serial.log'}" in caught.value.__notes__[0]
