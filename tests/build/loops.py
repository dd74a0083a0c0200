"""Loop devices for tests, always given back."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def output(*words: str | Path) -> str:
    """Run a program, which must end well; return what it printed."""
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@contextmanager
def loop(file: Path, size: int, *words: str) -> Iterator[str]:
    """Give a loop device over a new sparse file of `size` bytes; `words` go to losetup(8)."""
    with file.open("wb") as stream:
        stream.truncate(size)
    device = output("losetup", "--find", "--show", *words, file)
    try:
        yield device
    finally:
        output("losetup", "--detach", device)
