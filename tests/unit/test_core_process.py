"""The door for processes, tried on real small programs."""

from __future__ import annotations

import os
import shlex
import subprocess
import threading
import time
from pathlib import Path

import pytest

from builder.core import process as room
from builder.core.errors import UserError
from builder.core.process import CommandError, Runner

pytestmark = pytest.mark.allow_commands("sh", "cat", "env", "printf", "sleep")

WORDS = ["printf", "%s|", "two words", "it's", '"', "$HOME", "*", "", "é\n"]


def test_it_returns_both_streams_apart() -> None:
    done = Runner().run(["sh", "-c", "echo out; echo err >&2"])
    assert (done.stdout, done.stderr) == ("out\n", "err\n")


def test_the_debug_line_can_be_pasted(tmp_path: Path) -> None:
    folder = tmp_path / "a folder"
    folder.mkdir()
    lines: list[str] = []
    runner = Runner(debug=lines.append)
    told = runner.run([*WORDS], env={"X": "it's; $X"}, cwd=folder).stdout
    place = runner.run(["sh", "-c", 'echo "$X"; pwd'], env={"X": "it's; $X"}, cwd=folder).stdout
    pasted = [
        subprocess.run(["sh", "-c", line], capture_output=True, text=True, check=True).stdout
        for line in lines
    ]
    assert pasted == [told, place]
    assert place == f"it's; $X\n{folder}\n"


def test_the_debug_line_splits_into_the_very_words() -> None:
    lines: list[str] = []
    Runner(debug=lines.append).run([*WORDS])
    assert shlex.split(lines[0]) == WORDS


def test_the_environment_is_clean(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_TOKEN", "x")
    monkeypatch.setenv("LANG", "de_DE.UTF-8")
    told = Runner().run(["env"], env={"SOURCE_DATE_EPOCH": "1"}).stdout.splitlines()
    values = dict(line.split("=", 1) for line in told)
    assert set(values) == {"PATH", "LC_ALL", "TZ", "HOME", "DEBIAN_FRONTEND", "SOURCE_DATE_EPOCH"}
    assert (values["LC_ALL"], values["TZ"]) == ("C.UTF-8", "UTC")


def test_standard_input_is_empty_unless_given() -> None:
    assert Runner().run(["cat"], timeout_s=10).stdout == ""
    assert Runner().run(["cat"], stdin="told").stdout == "told"


def test_nothing_reads_what_the_user_types() -> None:
    ours, (typed, keyboard) = os.dup(0), os.pipe()
    os.write(keyboard, b"typed by the user")
    os.dup2(typed, 0)
    try:
        assert Runner().run(["sh", "-c", "read x; echo $x"], ok=(0, 1), timeout_s=10).stdout == "\n"
    finally:
        os.dup2(ours, 0)
        for handle in (ours, typed, keyboard):
            os.close(handle)


def test_a_failure_shows_the_last_lines_only() -> None:
    with pytest.raises(CommandError) as caught:
        Runner().run(["sh", "-c", 'for i in $(seq 40); do echo "line $i"; done; exit 3'])
    shown = caught.value.what.splitlines()
    assert shown[0] == "sh: exit status 3"
    assert shown[1:] == [f"    line {number}" for number in range(26, 41)]
    assert caught.value.output.startswith("line 1\n")
    assert isinstance(caught.value, UserError)


def test_a_status_can_be_declared_an_answer() -> None:
    assert Runner().run(["sh", "-c", "echo no; exit 1"], ok=(0, 1)).stdout == "no\n"


def test_a_failure_names_the_program_it_is_about() -> None:
    with pytest.raises(CommandError, match=r"^mkfs\.erofs: exit status 1$"):
        Runner().run(["sh", "-c", "exit 1"], called="mkfs.erofs")


def test_a_full_disk_is_recognised_and_hinted() -> None:
    with pytest.raises(CommandError, match="no space left on the disk") as caught:
        Runner().run(["sh", "-c", "echo 'cp: x: No space left on device' >&2; exit 1"])
    assert caught.value.hint is not None
    assert "cache prune" in caught.value.hint


def test_a_signal_has_its_name() -> None:
    with pytest.raises(CommandError, match="ended by signal SIGKILL"):
        Runner().run(["sh", "-c", "kill -KILL $$"])


@pytest.mark.allow_commands("nonesuch")
def test_a_missing_program() -> None:
    with pytest.raises(CommandError, match="nonesuch: program not found"):
        Runner().run(["nonesuch"])


def test_bytes_that_are_no_text_do_no_harm() -> None:
    assert Runner().run(["printf", r"\377ok"]).stdout.endswith("ok")


def test_a_time_limit_ends_the_program_and_its_children(tmp_path: Path) -> None:
    child = tmp_path / "child"
    started = time.monotonic()
    with pytest.raises(CommandError, match=r"sh: no end after 0\.3 s"):
        Runner().run(["sh", "-c", f"sleep 60 & echo $! > {child}; wait"], timeout_s=0.3)
    assert time.monotonic() - started < 5
    assert _gone(int(child.read_text()))


def test_a_program_that_will_not_end_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stubborn = tmp_path / "stubborn"
    monkeypatch.setattr(room, "_TERM_GRACE_S", 0.2)
    started = time.monotonic()
    with pytest.raises(CommandError, match="no end after"):
        Runner().run(
            ["sh", "-c", f"trap '' TERM; echo $$ > {stubborn}; sleep 60; sleep 60"], timeout_s=0.3
        )
    assert time.monotonic() - started < 5
    assert _gone(int(stubborn.read_text()))


def test_close_ends_what_runs_and_refuses_what_comes(tmp_path: Path) -> None:
    runner, ready = Runner(), tmp_path / "ready"
    outcome: list[CommandError] = []

    def work() -> None:
        try:
            runner.run(["sh", "-c", f"echo > {ready}; sleep 60"])
        except CommandError as error:
            outcome.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    while not ready.exists():
        time.sleep(0.01)
    runner.close()
    thread.join(5)
    assert not thread.is_alive()
    assert outcome[0].status == "ended by signal SIGTERM"
    with pytest.raises(CommandError, match="not started"):
        runner.run(["sh", "-c", "true"])


def _gone(pid: int) -> bool:
    """Tell whether a process ends within seconds (one that nobody has collected counts)."""
    for _ in range(200):
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0]
        except (FileNotFoundError, ProcessLookupError):
            return True
        if state == "Z":
            return True
        time.sleep(0.01)
    return False
