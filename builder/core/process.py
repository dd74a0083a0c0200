"""The one door through which imgbuild starts other programs.

Argument lists only, a clean environment, standard input closed. With `debug` each
command is printed in a form that can be pasted into a shell.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shlex
import signal
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from builder.core.errors import UserError

_TERM_GRACE_S = 10.0
_TAIL_LINES = 15
NO_SPACE_HINT = "imgbuild cache prune, or a larger disk"
_ENV = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "LC_ALL": "C.UTF-8",
    "TZ": "UTC",
    "HOME": "/nonexistent",
    "DEBIAN_FRONTEND": "noninteractive",
}


class CommandError(UserError):
    """A program ended with a non-zero status, could not start, or took too long."""

    def __init__(self, name: str, status: str, output: str) -> None:
        tail = "\n".join("    " + line for line in output.strip().splitlines()[-_TAIL_LINES:])
        hint = None
        if os.strerror(errno.ENOSPC) in output:
            status, hint = f"{status}, no space left on the disk", NO_SPACE_HINT
        super().__init__(f"{name}: {status}\n{tail}" if tail else f"{name}: {status}", hint=hint)
        self.status = status
        self.output = output


@dataclass(frozen=True)
class Finished:
    """A program that ended well: its standard output, and standard error apart."""

    stdout: str
    stderr: str


@dataclass
class Runner:
    """Starts programs and knows which still run, so that all can be ended at once.

    `debug` receives one line for each command before it starts.
    """

    debug: Callable[[str], None] | None = None
    _live: set[subprocess.Popen[Any]] = field(default_factory=set)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _closed: bool = False

    def run(
        self,
        argv: Sequence[str | Path],
        *,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        timeout_s: float | None = None,
        stdin: str | None = None,
        ok: Sequence[int] = (0,),
        called: str | None = None,
    ) -> Finished:
        """Run `argv` to its end and return what it printed.

        `env` adds to a fixed minimal environment; errors name the program `called`
        (default: the first word). Raises CommandError when the exit
        status is not in `ok`, when the program is missing, or after `timeout_s`.
        """
        words = [str(word) for word in argv]
        name = called or words[0]
        self._announce(words, env, cwd)
        process = self._start(words, {**_ENV, **(env or {})}, cwd, piped=stdin is not None)
        try:
            stdout, stderr = process.communicate(stdin, timeout=timeout_s)
        except subprocess.TimeoutExpired:
            self._end(process)
            raise CommandError(name, f"no end after {timeout_s:g} s", "") from None
        except BaseException:
            self._end(process)
            raise
        finally:
            with self._lock:
                self._live.discard(process)
        if process.returncode not in ok:
            raise CommandError(name, _status(process.returncode), stdout + stderr)
        return Finished(stdout, stderr)

    @contextlib.contextmanager
    def reading(self, argv: Sequence[str | Path]) -> Iterator[IO[bytes]]:
        """Start `argv` and give its standard output, to be read as it comes; end it afterwards.

        A reader that finds too little raises EOFError. Raises CommandError when that is because
        the program failed, or when it cannot start.
        """
        words = [str(word) for word in argv]
        self._announce(words, None, None)
        with tempfile.TemporaryFile() as errors:
            process = self._start_binary(words, errors)
            try:
                if process.stdout is None:
                    raise CommandError(words[0], "has no output", "")
                yield process.stdout
            except EOFError:
                status = process.wait(_TERM_GRACE_S)
                errors.seek(0)
                said = errors.read().decode(errors="replace")
                told = _status(status) if status else "its output is shorter than expected"
                raise CommandError(words[0], told, said) from None
            finally:
                self._end(process)
                with self._lock:
                    self._live.discard(process)

    def close(self) -> None:
        """End everything that still runs; later calls of `run` are refused."""
        with self._lock:
            self._closed = True
            live = list(self._live)
        for process in live:
            self._end(process)

    def _announce(
        self, words: Sequence[str], env: Mapping[str, str] | None, cwd: Path | None
    ) -> None:
        if self.debug is None:
            return
        prefix = [f"{name}={shlex.quote(value)}" for name, value in (env or {}).items()]
        line = " ".join([*prefix, shlex.join(words)])
        self.debug(f"(cd {shlex.quote(str(cwd))} && {line})" if cwd else line)

    def _start(
        self, words: list[str], env: dict[str, str], cwd: Path | None, *, piped: bool
    ) -> subprocess.Popen[str]:
        with self._lock:
            if self._closed:
                raise CommandError(words[0], "not started: the command is being ended", "")
            try:
                process = subprocess.Popen(
                    words,
                    env=env,
                    cwd=cwd,
                    stdin=subprocess.PIPE if piped else subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    text=True,
                    errors="replace",
                    start_new_session=True,
                )
            except FileNotFoundError:
                raise CommandError(words[0], "program not found", "") from None
            self._live.add(process)
            return process

    def _start_binary(self, words: list[str], errors: IO[bytes]) -> subprocess.Popen[bytes]:
        with self._lock:
            if self._closed:
                raise CommandError(words[0], "not started: the command is being ended", "")
            try:
                process = subprocess.Popen(
                    words,
                    env=_ENV,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=errors,
                    start_new_session=True,
                )
            except FileNotFoundError:
                raise CommandError(words[0], "program not found", "") from None
            self._live.add(process)
            return process

    @staticmethod
    def _end(process: subprocess.Popen[Any]) -> None:
        """Ask the process group to end, wait, then kill it."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(_TERM_GRACE_S)
            os.killpg(process.pid, signal.SIGKILL)


def _status(code: int) -> str:
    if code < 0:
        return f"ended by signal {signal.Signals(-code).name}"
    return f"exit status {code}"
