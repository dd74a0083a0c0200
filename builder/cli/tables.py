"""How tables, sizes and shares look."""

from __future__ import annotations

from rich.console import Console, JustifyMethod
from rich.filesize import decimal
from rich.table import Table

_WIDE = 160  # columns in a pipe: what asks its terminal gets 80, and cells are torn


def table(*headings: str, right: tuple[str, ...] = ()) -> Table:
    """Return an empty table; the columns in `right` hold numbers."""
    made = Table(box=None, pad_edge=False)
    for heading in headings:
        number = heading in right
        justify: JustifyMethod = "right" if number else "left"
        made.add_column(heading, justify=justify, no_wrap=number, overflow="fold")
    return made


def show(made: Table) -> None:
    """Print a table, as wide as the terminal; in a pipe wide, and without blanks at line ends."""
    console = Console(markup=False, highlight=False)
    if console.is_terminal:
        console.print(made)
        return
    wide = Console(markup=False, highlight=False, width=_WIDE)
    with wide.capture() as captured:
        wide.print(made)
    print("\n".join(line.rstrip() for line in captured.get().splitlines()))


def percent(part: int, whole: int) -> str:
    """Return a share in whole percents, empty where there is nothing to share."""
    return f"{100 * part / whole:.0f} %" if whole else ""


def size(count: int | None) -> str:
    """Return bytes as people read them, empty where they are not known."""
    return "" if count is None else decimal(count)
