"""The one door through which the node's own code starts programs; a time limit is mandatory."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import IO

_KILLED_S = 5  # how long a killed program may take to go


@dataclass(frozen=True)
class Finished:
    """How a program ended; `rc` is 124 when its time ran out, 127 when it cannot start."""

    rc: int
    stdout: str
    stderr: str


class Child:
    """A program that runs beside us, its output being ours."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process

    @property
    def pid(self) -> int:
        """Its number."""
        return self._process.pid

    def wait(self, *, timeout_s: float) -> int | None:
        """Return the exit code, or None when it still runs after so many seconds."""
        try:
            return self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return None

    def kill(self) -> None:
        """End it at once."""
        self._process.kill()


def start(
    argv: Sequence[str],
    *,
    env: Mapping[str, str],
    output: int | None = None,
    source: int = subprocess.DEVNULL,
) -> Child:
    """Start a program with `env` on top of our environment. Raises OSError.

    It reads from the file descriptor `source`, else nothing, and writes to the file descriptor
    `output`, or where we write.
    """
    more = {**_own(), **env}
    return Child(subprocess.Popen(argv, stdin=source, stdout=output, env=more))


def run(
    argv: Sequence[str],
    *,
    timeout_s: float,
    stdin: str = "",
    env: Mapping[str, str] | None = None,
) -> Finished:
    """Run a program to its end, with `env` on top of our environment; its input is `stdin` alone.

    Never raises for what it does.

    When its time runs out it is killed, and `stdout` is what it had said by then. One that hangs
    in the kernel cannot be killed: it is left behind, so that we do not hang with it.
    """
    return _finish(argv, timeout_s, subprocess.PIPE, stdin.encode(), env)


def pipe(
    source: Sequence[str], sink: Sequence[str], *, timeout_s: float
) -> tuple[Finished, Finished]:
    """Run two programs to their ends, the second reading what the first writes.

    Never raises for what they do; when the second one fails, the first is killed.
    """
    with os.fdopen(os.memfd_create("errors"), "w+b") as errors:
        try:
            first = subprocess.Popen(
                source, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors, env=_own()
            )
        except OSError as error:
            missing = Finished(127, "", f"{source[0]}: {error.strerror}")
            return missing, missing
        with first:
            try:
                second = _finish(sink, timeout_s, first.stdout, None)
            except BaseException:
                first.kill()
                raise
            if second.rc:
                first.kill()
        errors.seek(0)
        told = errors.read().decode(errors="replace")
    return Finished(first.returncode, "", told), second


def _finish(
    argv: Sequence[str],
    timeout_s: float,
    stdin: int | IO[bytes] | None,
    data: bytes | None,
    env: Mapping[str, str] | None = None,
) -> Finished:
    out, whole = subprocess.PIPE, {**_own(), **(env or {})}
    try:
        process = subprocess.Popen(argv, stdin=stdin, stdout=out, stderr=out, env=whole)
    except (FileNotFoundError, PermissionError) as error:
        return Finished(127, "", f"{argv[0]}: {error.strerror}")
    try:
        stdout, stderr = process.communicate(data, timeout_s)
    except subprocess.TimeoutExpired as error:
        process.kill()
        Child(process).wait(timeout_s=_KILLED_S)
        return Finished(124, _text(error.stdout), f"{argv[0]}: no end after {timeout_s:g} s")
    return Finished(process.returncode, _text(stdout), _text(stderr))


def _text(output: bytes | None) -> str:
    return (output or b"").decode(errors="replace")


def _own() -> dict[str, str]:
    """Return our environment without the socket on which systemd listens to us alone."""
    return {name: value for name, value in os.environ.items() if name != "NOTIFY_SOCKET"}
