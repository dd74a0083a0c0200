"""Runs a program and measures it: seconds, and the memory of all its processes."""

from __future__ import annotations

import os
import resource
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.memory import Memory, watch
from builder.core.process import Runner

_LIMIT_S = 1800.0


@dataclass(frozen=True)
class Measured:
    """One run: wall-clock and processor seconds, memory, and what the program printed."""

    seconds: float
    processor: float
    memory: Memory
    stdout: str


def measure(
    runner: Runner,
    argv: Sequence[str | Path],
    *,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
) -> Measured:
    """Run `argv` after the disk has settled. Raises CommandError when it fails."""
    os.sync()
    with watch() as memory:
        words = [*memory.prefix, *argv]
        started, spent = time.monotonic(), _children()
        done = runner.run(words, env=env, cwd=cwd, timeout_s=_LIMIT_S, called=str(argv[0]))
        seconds = time.monotonic() - started
    return Measured(seconds, _children() - spent, memory.taken(), done.stdout)


def _children() -> float:
    """Return the processor seconds of all programs that have ended below this one."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
