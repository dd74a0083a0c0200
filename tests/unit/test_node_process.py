"""The node's door for processes: it ends in time, whatever the program does."""

from __future__ import annotations

import subprocess
import time

import pytest

from imgnode.process import run


@pytest.mark.allow_commands("sh")
def test_what_it_said_before_its_time_ran_out_is_kept() -> None:
    done = run(["sh", "-c", "echo begun; exec sleep 60"], timeout_s=0.5)
    assert (done.rc, done.stdout, done.stderr) == (124, "begun\n", "sh: no end after 0.5 s")


@pytest.mark.allow_commands("sh")
def test_input_and_output() -> None:
    done = run(["sh", "-c", "cat; printf '\\377' >&2; exit 3"], timeout_s=10, stdin="ümlaut")
    assert (done.rc, done.stdout, done.stderr) == (3, "ümlaut", "\ufffd")


@pytest.mark.allow_commands("sh", "nonesuch")
def test_one_that_cannot_start() -> None:
    assert run(["nonesuch"], timeout_s=1).rc == 127


@pytest.mark.allow_commands("sh")
def test_one_that_cannot_be_killed_is_left_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that hangs in a driver does not see the signal before the driver is done."""
    monkeypatch.setattr(subprocess.Popen, "kill", lambda _: None)
    monkeypatch.setattr("imgnode.process._KILLED_S", 0.1)
    began = time.monotonic()
    assert run(["sh", "-c", "exec sleep 3"], timeout_s=0.1).rc == 124
    assert time.monotonic() - began < 2
