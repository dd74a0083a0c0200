"""Runs a program and measures it: seconds, processor time, and the memory of all its processes."""

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
    cpu_seconds: float
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
        started, used = time.monotonic(), _cpu_seconds()
        done = runner.run(words, env=env, cwd=cwd, timeout_s=_LIMIT_S, called=str(argv[0]))
        seconds = time.monotonic() - started
    return Measured(seconds, _cpu_seconds() - used, memory.taken(), done.stdout)


def _cpu_seconds() -> float:
    """Return the processor time of all ended children, theirs included (getrusage(2))."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
