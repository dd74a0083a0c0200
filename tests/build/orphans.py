"""Finds programs that outlive the command which started them."""

from __future__ import annotations

import contextlib
import ctypes
import os
import time
from collections.abc import Iterator
from pathlib import Path

_PR_SET_CHILD_SUBREAPER = 36
_GRACE_S = 5.0


@contextlib.contextmanager
def no_orphans() -> Iterator[None]:
    """Assert that what is started in the block leaves no program running.

    Each of imgbuild's programs has a session of its own, so sessions tell nothing. Instead
    this process takes in the orphans of its descendants (prctl(2), CHILD_SUBREAPER).
    """
    libc = ctypes.CDLL(None)
    before = set(_children())
    libc.prctl(_PR_SET_CHILD_SUBREAPER, 1)
    try:
        yield
        left = _after_grace(before)
    finally:
        libc.prctl(_PR_SET_CHILD_SUBREAPER, 0)
    assert left == [], f"still running: {left}"


def _after_grace(before: set[int]) -> list[str]:
    """Return the command lines of new children that do not end within the grace."""
    end = time.monotonic() + _GRACE_S
    while True:
        left = []
        for pid in set(_children()) - before:
            with contextlib.suppress(ChildProcessError):
                if os.waitpid(pid, os.WNOHANG)[0] == 0:
                    left.append(_command_line(pid))
        if not left or time.monotonic() > end:
            return left
        time.sleep(0.05)


def _children() -> list[int]:
    own = str(os.getpid())
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = stat.read_text().rpartition(")")[2].split()
            if fields[1] == own:
                found.append(int(stat.parent.name))
    return found


def _command_line(pid: int) -> str:
    return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")
