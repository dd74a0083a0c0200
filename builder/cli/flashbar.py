"""What is seen while a disk is written: a bar on a terminal, else one line for each phase."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from rich.console import Console
from rich.filesize import decimal
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

_WORDS = {"clear": "cleared", "write": "written", "verify": "read back", "seed": "seed written"}


@dataclass
class Bars:
    """Shows phases, one after the other; each says its rate when it is over."""

    progress: Progress | None
    _over: Callable[[], None] = field(default=lambda: None)

    def begin(self, phase: str, total: int) -> Callable[[int], None]:
        """Begin a phase of `total` bytes; the result takes each further piece."""
        self.end()
        started, task = time.monotonic(), None
        if self.progress:
            task = self.progress.add_task(phase, total=total)

        def tell(count: int) -> None:
            if self.progress and task is not None:
                self.progress.advance(task, count)

        def over() -> None:
            seconds = max(time.monotonic() - started, 0.001)
            rate = f"{decimal(total)} in {seconds:.1f} s, {decimal(int(total / seconds))}/s"
            print(f"{_WORDS.get(phase, phase)}: {rate}", file=sys.stderr)

        self._over = over if self.progress is None else lambda: None
        return tell

    def end(self) -> None:
        """Say what the last phase did."""
        self._over()
        self._over = lambda: None


@contextmanager
def bars() -> Iterator[Bars]:
    """Give what shows the phases of one run, on standard error."""
    if not sys.stderr.isatty():
        shown = Bars(None)
        yield shown
        shown.end()
        return
    columns = (
        TextColumn("{task.description:<7}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(elapsed_when_finished=True),
    )
    with Progress(*columns, console=Console(stderr=True)) as progress:
        yield Bars(progress)
