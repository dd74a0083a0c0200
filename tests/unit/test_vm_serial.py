"""Following the serial log."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from builder.vm.errors import VmError, VmExited, VmTimeout
from builder.vm.serial import SerialLog, plain_lines

if TYPE_CHECKING:
    from pathlib import Path

BOOT = (
    b"\x1b[2J\x1b[01;01H[    0.000000] Linux version 6.1\r\n"
    b"[  \x1b[0;32mOK\x1b[0m  ] Reached target Multi-User.\r\n"
    b"\r\ngpu-07 login: "
)


def log(tmp_path: Path, content: bytes = BOOT) -> SerialLog:
    path = tmp_path / "serial.log"
    path.write_bytes(content)
    return SerialLog(path)


def test_a_pattern_sees_lines_without_colours(tmp_path: Path) -> None:
    found = log(tmp_path).find(r"^\[  OK  \] Reached target (\S+)\.$")
    assert found is not None
    assert found.line == "[  OK  ] Reached target Multi-User."


def test_an_unfinished_last_line_counts(tmp_path: Path) -> None:
    serial = log(tmp_path)
    found = serial.find(r"login: $")
    assert found is not None
    assert found.end == serial.position() == len(BOOT)


def test_the_search_goes_on_from_a_position(tmp_path: Path) -> None:
    serial = log(tmp_path, b"boot\nlogin:\nboot\nlogin:\n")
    first = serial.find("login:")
    assert first is not None
    second = serial.find("login:", first.end)
    assert second is not None
    assert second.end > first.end
    assert serial.find("login:", second.end) is None


def test_a_log_not_yet_written_is_empty(tmp_path: Path) -> None:
    serial = SerialLog(tmp_path / "none")
    assert serial.position() == 0
    assert serial.find("x") is None
    assert serial.tail() == ""


def test_bytes_that_are_no_text_do_no_harm(tmp_path: Path) -> None:
    serial = log(tmp_path, b"\xff\xfe\x00 ready\n")
    assert serial.find("ready$") is not None


def test_a_timeout_shows_the_last_lines(tmp_path: Path) -> None:
    with pytest.raises(VmTimeout, match=r"(?s)no 'never'.* 0 s;.*    gpu-07 login:"):
        log(tmp_path).wait_for("never", 0, alive=lambda: True)


def test_the_end_of_qemu_is_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(VmExited, match="QEMU ended before"):
        log(tmp_path).wait_for("never", 60, alive=lambda: False)


def test_last_words_count_even_when_qemu_is_gone(tmp_path: Path) -> None:
    assert log(tmp_path).wait_for("login:", 60, alive=lambda: False).text == "login:"


def test_faults_of_the_machine_end_with_exit_code_1() -> None:
    assert VmError.exit_code == VmTimeout.exit_code == 1


def test_plain_lines_drop_what_only_moves_the_cursor() -> None:
    assert plain_lines("\x1b[2J\x1b[=3h\r\na\x1b]0;title\x07b\x1b(B\r\n \n") == ["ab"]


def test_silence_after_a_reset(tmp_path: Path) -> None:
    log = SerialLog(tmp_path / "serial.log")
    assert not log.silent_since_reset(0)
    log.path.write_text("x" * 500 + "\r\n[  167.7] reboot: Restarting system\r\n")
    assert log.silent_since_reset(0)
    assert not log.silent_since_reset(60)
    os.utime(log.path, (1, 1))
    assert log.silent_since_reset(60)
    log.path.write_text(
        "reboot: Restarting system\r\n\x1b[2J\x1b[01;01HBdsDxe: starting Boot0002\r\n"
    )
    assert log.silent_since_reset(0)
    log.path.write_text(
        "reboot: Restarting system\r\nBdsDxe: starting Boot0002\r\nEFI stub: Loaded initrd\r\n"
    )
    assert not log.silent_since_reset(0)
