"""The servers that work for us: started, watched, started again, and never left behind."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from builder.core.errors import UserError
from builder.core.process import CommandError, Runner

_CALM_S, _TRIES, _PAUSE_S = 60.0, 3, 1.0
_END_S = 5.0
_TAIL = 5


@dataclass(frozen=True)
class Child:
    """A server: its command, the file that it writes its process number to, and its log."""

    name: str
    argv: Sequence[str | Path]
    pid: Path
    log: Path


async def keep(runner: Runner, child: Child, say: Callable[[str], None]) -> None:
    """Run a server for as long as we do; one that ends is started again, three times a minute.

    Raises UserError when it does not stay up.
    """
    ends: list[float] = []
    while True:
        why = await asyncio.to_thread(_run, runner, child)
        now = time.monotonic()
        ends = [one for one in ends if now - one < _CALM_S] + [now]
        if len(ends) >= _TRIES:
            fact = f"{child.name} does not stay up: {why}\n{_tail(child.log)}".rstrip()
            raise UserError(fact, hint=f"all of it is in {child.log}")
        say(f"{child.name} ended and is started again: {why}")
        await asyncio.sleep(_PAUSE_S)


def _run(runner: Runner, child: Child) -> str:
    """Run a server to its end, and that of its workers: they go on when nginx alone is killed."""
    try:
        runner.run(child.argv)
    except CommandError as error:
        return str(error)
    return "it ended by itself"


def _tail(log: Path) -> str:
    with contextlib.suppress(OSError):
        lines = log.read_text(errors="replace").splitlines()[-_TAIL:]
        return "\n".join(f"    {line}" for line in lines)
    return ""


def end_leftover(child: Child) -> bool:
    """End what a killed run of ours left; True where there was such a one.

    Only a process that works with our own configuration file counts: numbers are used again.
    """
    try:
        number = int(child.pid.read_text())
        words = Path(f"/proc/{number}/cmdline").read_bytes().decode().split("\0")
    except (OSError, ValueError):
        return False
    # nginx writes its title over its words: "nginx: master process nginx -c …"
    ours = str(child.argv[-1])
    if not any(ours in word for word in words):
        return False
    with contextlib.suppress(ProcessLookupError):
        os.kill(number, signal.SIGTERM)
        ends = time.monotonic() + _END_S
        while time.monotonic() < ends and Path(f"/proc/{number}").exists():
            time.sleep(0.05)
    return True
