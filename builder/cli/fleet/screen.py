"""How a job looks while it goes on: a live table, plain lines in a pipe, JSON for machines."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from builder.cli.tables import table
from builder.fleet.job import TAKEN, WAITING, Job

Say = Callable[[str, str], None]
_ROWS = 30


@contextmanager
def screen(current: Callable[[], Job | None], *, as_json: bool) -> Iterator[tuple[Say, Say]]:
    """Give what hears a node (or nothing) and a line, and what hears a node and its step.

    `current` returns the job as it is on disk.
    """
    if as_json:
        yield _json, _nothing
    elif sys.stderr.isatty():
        view = _View(current)
        with Live(get_renderable=view.draw, console=Console(stderr=True), refresh_per_second=4):
            yield view.take, view.take
    else:
        yield _plain, _nothing


def _nothing(_name: str, _text: str) -> None:
    pass


def _json(name: str, text: str) -> None:
    print(json.dumps({"node": name, "text": text}), flush=True)


def _plain(name: str, text: str) -> None:
    sys.stderr.write(f"{name}: {text}\n" if name else f"{text}\n")


class _View:
    """What goes on, and of how many nodes what came."""

    def __init__(self, current: Callable[[], Job | None]) -> None:
        self._current = current
        self._steps: dict[str, str] = {}
        self._line = ""

    def take(self, name: str, text: str) -> None:
        """Hear a line."""
        if name:
            self._steps[name] = text
        else:
            self._line = text

    def draw(self) -> Group:
        """Return what to show now."""
        job = self._current()
        if job is None:
            return Group(Text(self._line))
        rows = table("node", "outcome", "now")
        shown = [n for n, one in job.hosts.items() if one.outcome != WAITING]
        taken = [n for n in shown if job.hosts[n].outcome == TAKEN]
        for name in [*[n for n in shown if n not in taken], *taken][-_ROWS:]:
            one = job.hosts[name]
            now = self._steps.get(name, "") if one.outcome == TAKEN else one.text
            rows.add_row(name, one.outcome, now)
        counts = ", ".join(f"{count} {what}" for what, count in job.counts().items())
        return Group(Text(f"{job.kind} {job.name}: {self._line}"), Text(counts), rows)
