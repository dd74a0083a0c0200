"""The one door through which the node's own code starts programs; a time limit is mandatory."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Finished:
    """How a program ended; `rc` is 124 when its time ran out, 127 when it cannot start."""

    rc: int
    stdout: str
    stderr: str


def run(argv: Sequence[str], *, timeout_s: float) -> Finished:
    """Run a program to its end, standard input closed. Never raises for what it does."""
    try:
        done = subprocess.run(
            argv,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout_s,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return Finished(124, "", f"{argv[0]}: no end after {timeout_s:g} s")
    except (FileNotFoundError, PermissionError) as error:
        return Finished(127, "", f"{argv[0]}: {error.strerror}")
    return Finished(done.returncode, done.stdout, done.stderr)
