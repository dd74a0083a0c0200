"""The room's one door to processes that outlive the call, or whose status matters.

Everything that simply runs to a good end goes through builder.core.process.Runner.
"""

from __future__ import annotations

import contextlib
import shlex
import signal
import subprocess
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING

from builder.core.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from builder.core.process import Runner

_ENV = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "LC_ALL": "C.UTF-8",
    "HOME": "/nonexistent",
}
_WAIT_AFTER_KILL_S = 10.0


@dataclass(frozen=True)
class Captured:
    """A program that ended: exit status (negative: the signal) and what it printed."""

    rc: int
    stdout: str
    stderr: str


def spawn(runner: Runner, argv: Sequence[str], log: Path) -> subprocess.Popen[bytes]:
    """Start `argv`, its output appended to `log`, and return at once.

    The program dies with the thread that started it, so that a killed imgbuild leaves
    no virtual machine behind. Raises UserError when it cannot be found.
    """
    with log.open("ab") as stream:
        return _popen(runner, ["setpriv", "--pdeathsig", "KILL", "--", *argv], stream)


def capture(runner: Runner, argv: Sequence[str], timeout_s: float) -> Captured | None:
    """Run `argv` to its end and return status and output; None after `timeout_s` seconds.

    Any exit status is an answer. Raises UserError when the program cannot be found.
    """
    child = _popen(runner, argv, subprocess.PIPE)
    try:
        stdout, stderr = child.communicate(timeout=timeout_s)
    except subprocess.TimeoutExpired:
        return None
    finally:
        kill(child)
    return Captured(
        child.returncode, stdout.decode(errors="replace"), stderr.decode(errors="replace")
    )


def kill(child: subprocess.Popen[bytes]) -> None:
    """End `child` with SIGKILL if it still runs, and collect it."""
    with contextlib.suppress(ProcessLookupError):
        child.send_signal(signal.SIGKILL)
    child.wait(_WAIT_AFTER_KILL_S)
    for stream in (child.stdout, child.stderr):
        if stream is not None:
            stream.close()


def _popen(runner: Runner, argv: Sequence[str], output: IO[bytes] | int) -> subprocess.Popen[bytes]:
    if runner.debug is not None:
        runner.debug(shlex.join(argv))
    try:
        return subprocess.Popen(
            argv,
            env=_ENV,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output if output == subprocess.PIPE else subprocess.STDOUT,
            start_new_session=True,
        )
    except FileNotFoundError:
        raise UserError(
            f"{argv[0]}: program not found", hint="`imgbuild doctor` says what to install"
        ) from None
