"""How events look: a live list on a terminal, plain lines when piped, JSON for machines."""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import TextIO

from rich.console import Console, Group, RenderableType
from rich.filesize import decimal
from rich.live import Live
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from builder.core.events import Event, EventSink, Note, StageEnded, StageStarted

_MARKS = {"built": "built", "cached": "cached", "failed": "FAILED"}


@contextmanager
def sink(*, as_json: bool, debug: bool, live: bool = True) -> Iterator[EventSink]:
    """Give the sink that fits where the output goes; notes and progress go to stderr."""
    if as_json:
        yield _json_line
    elif live and sys.stderr.isatty() and not debug:
        view = _View()
        with Live(view, console=Console(stderr=True), refresh_per_second=8, transient=False):
            yield view.take
    else:
        yield _Plain(debug=debug)


def _json_line(event: Event) -> None:
    kind = type(event).__name__
    if not (isinstance(event, Note) and event.level == "debug"):
        _write(sys.stdout, json.dumps({"event": kind, **asdict(event)}))


@dataclass(frozen=True)
class _Plain:
    debug: bool

    def __call__(self, event: Event) -> None:
        line = _line(event)
        if line and (self.debug or not isinstance(event, StageStarted)):
            _write(sys.stderr, line)


def _write(stream: TextIO, line: str) -> None:
    """Write a line in one call: print() makes two, and threads would come in between."""
    stream.write(f"{line}\n")
    stream.flush()


def _line(event: Event) -> str:
    match event:
        case StageStarted(stage):
            return f"{stage:<8} …"
        case StageEnded(stage, outcome, seconds, size, _):
            return f"{stage:<8} {_MARKS[outcome]:<7} {seconds:6.1f} s  {decimal(size):>9}"
        case Note("debug", text):
            return f"+ {text}"
        case Note("warning", text):
            return f"warning: {text}"
        case Note(_, text):
            return text


@dataclass
class _View:
    """The live list; `take` is called from any thread, rich draws from its own."""

    _running: dict[str, float] = field(default_factory=dict)
    _done: list[Event] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def take(self, event: Event) -> None:
        with self._lock:
            match event:
                case StageStarted(stage):
                    self._running[stage] = time.monotonic()
                case StageEnded(stage=stage):
                    self._running.pop(stage, None)
                    self._done.append(event)
                case Note(level, _) if level != "debug":
                    self._done.append(event)

    def __rich__(self) -> RenderableType:
        with self._lock:
            lines: list[RenderableType] = [
                Text(_line(event), style=_style(event)) for event in self._done
            ]
            now = time.monotonic()
            for stage, started in self._running.items():
                row = Table.grid(padding=(0, 1))
                row.add_row(Text(f"{stage:<8}"), Spinner("line"), Text(f"{now - started:6.1f} s"))
                lines.append(row)
        return Group(*lines)


def _style(event: Event) -> str:
    match event:
        case StageEnded(outcome="failed"):
            return "bold red"
        case StageEnded(outcome="cached"):
            return "dim"
        case Note("warning", _):
            return "yellow"
    return ""
