"""Reads the kernel's log, record by record (the kernel's Documentation/ABI/testing/dev-kmsg)."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

_DEVICE = Path("dev/kmsg")
_RECORD_BYTES = 8192


@dataclass(frozen=True)
class Record:
    """One line: its number in this boot, seconds since the boot, the text."""

    number: int
    at: float
    text: str


def parse(data: bytes) -> Record | None:
    """Return what one read of the device gave; None for what is no record."""
    head, _, text = data.decode(errors="replace").partition(";")
    words = head.split(",")
    if len(words) < 3 or not (words[1].isdigit() and words[2].isdigit()):  # noqa: PLR2004
        return None
    return Record(int(words[1]), int(words[2]) / 1e6, text.partition("\n")[0])


@dataclass
class KernelLog:
    """The log from the oldest record on; what was read is not read again."""

    root: Path = Path("/")
    _handle: int | None = field(init=False, default=None)

    def there(self) -> bool:
        """Tell whether there is a log to read."""
        return (self.root / _DEVICE).exists()

    def read(self) -> Iterator[Record]:
        """Yield what is new. Raises OSError where it may not be read."""
        if self._handle is None:
            flags = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC
            self._handle = os.open(self.root / _DEVICE, flags)
        while True:
            try:
                data = os.read(self._handle, _RECORD_BYTES)
            except BlockingIOError:
                return
            except BrokenPipeError:
                continue  # the kernel has dropped records before we came: the next read goes on
            record = parse(data)
            if not data:
                return
            if record is not None:
                yield record
