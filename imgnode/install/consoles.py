"""Every console that the kernel writes to: screen and serial lines; /dev/console is only one."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

_ACTIVE = Path("sys/class/tty/console/active")


def tell(text: str, root: Path = Path("/")) -> None:
    """Write a line to each console; one that does not take it is passed over."""
    for name in _names(root):
        with suppress(OSError):
            handle = os.open(root / "dev" / name, os.O_WRONLY | os.O_NOCTTY | os.O_NONBLOCK)
            try:
                os.write(handle, f"{text}\r\n".encode())
            finally:
                os.close(handle)


def _names(root: Path) -> list[str]:
    try:
        return (root / _ACTIVE).read_text().split()
    except OSError:
        return []
