"""How installations look in the terminal: a table that changes, or one line for each change."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from types import TracebackType
from typing import Self

from rich.console import Console, Group
from rich.filesize import decimal
from rich.live import Live
from rich.table import Table
from rich.text import Text

from builder.serve.desk import Desk
from builder.serve.view import Row, counts, rows

_COLOURS = {"failed": "red", "held": "red", "waiting": "yellow", "installing": "cyan",
            "done": "green"}  # fmt: skip
_NOTES, _EDGE = 4, 6


class Rollout:
    """Shows the machines of a desk; `say` gets lines where there is no `console`."""

    def __init__(self, desk: Desk, say: Callable[[str], None], console: Console | None) -> None:
        self._desk, self._say, self._console = desk, say, console
        self._notes: list[str] = []
        self._known: dict[str, tuple[str, str, str]] = {}
        self._live: Live | None = None
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        if self._console is not None:
            live = Live(console=self._console, auto_refresh=False, transient=False)
            self._live = self._stack.enter_context(live)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.close()

    def tell(self, text: str) -> None:
        """Show a line: below the table, or by itself."""
        if self._live is None:
            self._say(text)
        else:
            self._notes = [*self._notes, text][-_NOTES:]

    def show(self) -> None:
        """Show how all machines are now."""
        found = rows(self._desk)
        if self._live is None or self._console is None:
            for line in self._changes(found):
                self._say(line)
            return
        room = max(self._console.height - _EDGE - len(self._notes), _EDGE)
        notes = [Text(one, style="dim") for one in self._notes]
        self._live.update(Group(summary(found), drawn(found, room), *notes), refresh=True)

    def _changes(self, found: Sequence[Row]) -> list[str]:
        """Return one line for each machine that is in another state or phase than before."""
        said = []
        for one in found:
            now = (one.state, one.phase, one.why)
            if self._known.get(one.name, ("expected", "", "")) != now:
                said.append(
                    " ".join(word for word in (f"{one.name}: {one.state}", *_told(one)) if word)
                )
            self._known[one.name] = now
        return said


def summary(found: Sequence[Row]) -> Text:
    """Return the counts of all states in one line."""
    words = [f"{count} {state}" for state, count in counts(found).items()]
    return Text("   ".join(words) or "no machine is in the inventory, and none has asked")


def drawn(found: Sequence[Row], room: int) -> Table:
    """Return the table of machines, as many as there is room for."""
    made = Table(box=None, pad_edge=False)
    for heading in ("machine", "state", "phase", "", "version", "address", "why"):
        made.add_column(heading, no_wrap=heading != "why", overflow="ellipsis")
    for one in found[:room]:
        state = "silent" if one.silent else one.state
        style = "yellow" if one.silent else _COLOURS.get(one.state, "")
        phase, progress = _phase(one)
        cells = (phase, progress, one.version, one.address, one.why)
        made.add_row(one.name, Text(state, style=style), *(Text(cell) for cell in cells))
    if len(found) > room:
        made.add_row(f"… and {len(found) - room} more")
    return made


def _phase(one: Row) -> tuple[str, str]:
    if one.state not in ("installing", "ordered", "failed") and one.phase != "boot":
        return "", ""
    percent = "" if one.percent is None else f"{one.percent:3} %"
    rate = f" {decimal(one.rate)}/s" if one.rate else ""
    return one.phase, f"{percent}{rate}"


def _told(one: Row) -> tuple[str, ...]:
    phase = one.phase if one.state in ("installing", "failed") else ""
    return phase, one.version if one.state == "done" else "", f"({one.why})" if one.why else ""
