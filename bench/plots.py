"""`make bench-plots`: the tables of docs/benchmarks*.md as pictures, in docs/plots/."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

_DOCS = Path(__file__).parents[1] / "docs"
_NUMBER = re.compile(r"[\d,]*\.?\d+")
_RULE = re.compile(r"\| *-")
_OURS, _OTHERS = "#2f6fb0", ("#c9812b", "#6c757d")
_OWN = {"imgbuild", "imgbuild serve", "patches", "seeded", "whole command"}
_BAR, _GAP = 0.22, 0.55  # inches

Row = Sequence[str]
Values = dict[str, dict[str, float]]  # bars by their series, then by what they are of


@dataclass(frozen=True)
class Plot:
    """A picture: its file's name, the page that has the table, and what is taken of it."""

    name: str
    page: str
    title: str
    unit: str
    values: Callable[[list[list[Row]]], Values]

    def read(self) -> Values:
        """Return the values that the page has now."""
        return self.values(list(tables((_DOCS / self.page).read_text())))


def tables(text: str) -> Iterator[list[Row]]:
    """Yield each table of a page, its head first, as rows of cells."""
    rows: list[Row] = []
    for line in [*text.splitlines(), ""]:
        if line.startswith("|"):
            if not _RULE.match(line):
                rows.append([cell.strip() for cell in line.strip("|").split("|")])
        elif rows:
            yield rows
            rows = []


def number(cell: str) -> float:
    """Return the first number in a cell. Raises ValueError where there is none."""
    found = _NUMBER.search(cell)
    if not found:
        raise ValueError(f"{cell!r} has no number")
    return float(found[0].replace(",", ""))


def _build(found: list[list[Row]]) -> Values:
    head, *rows = found[0]
    timed = [row for row in rows if row[1].split()[1] == "s"]
    return {head[n]: {row[0]: number(row[n]) for row in timed} for n in (1, 2)}


def _update(found: list[list[Row]]) -> Values:
    values: Values = {}
    what = ""
    for row in found[0][1:]:
        what = row[0] or what
        values.setdefault(row[1], {})[what] = number(row[3])
    return values


def _container(found: list[list[Row]]) -> Values:
    head, *rows = found[0]
    return {row[0]: {head[n]: number(row[n]) for n in (1, 2, 3)} for row in rows}


def _flash(found: list[list[Row]]) -> Values:
    rows = found[0][1:]
    return {
        "whole command": {f"{row[0]} ({row[1]})": number(row[2]) for row in rows},
    }


def _provision(found: list[list[Row]]) -> Values:
    table = next(one for one in found if one[0][0] == "server")
    values: Values = {}
    for row in table[1:]:
        for name, cell in zip(table[0][2:], row[2:], strict=True):
            clients = f"{row[1]}, {name.removesuffix(' client')} client{'s'[: name != '1 client']}"
            values.setdefault(row[0], {})[clients] = number(cell)
    return values


PLOTS = (
    Plot("build", "benchmarks.md", "Build and boot", "seconds", _build),
    Plot(
        "update",
        "benchmarks-update.md",
        "What a node downloads for an update",
        "% of the full image",
        _update,
    ),
    Plot(
        "container",
        "benchmarks-container.md",
        "A container image on a node",
        "seconds",
        _container,
    ),
    Plot("flash", "benchmarks-flash.md", "An image onto a disk", "seconds", _flash),
    Plot("provision", "provisioning.md", "Handing out releases", "MB/s", _provision),
)


def draw(plot: Plot, to: Path) -> None:
    """Write the picture as SVG: the same values give the same bytes."""
    import matplotlib as mpl  # noqa: PLC0415 - nothing else needs it: pip install '.[plots]'
    from matplotlib.figure import Figure  # noqa: PLC0415

    values = plot.read()
    labels = list(next(iter(values.values())))
    height = len(labels) * (len(values) * _BAR + _BAR) + 2 * _GAP
    settings = {"svg.hashsalt": plot.name, "svg.fonttype": "none", "font.family": "sans-serif"}
    with mpl.rc_context(settings):
        figure = Figure(figsize=(9, height), layout="constrained")
        axes = figure.subplots()
        step = 1 / (len(values) + 1)
        colours = _colours(values)
        for at, (name, bars) in enumerate(values.items()):
            places = [row + at * step for row in range(len(labels))]
            lengths = [bars[label] for label in labels]
            drawn = axes.barh(places, lengths, step, label=name, color=colours[name])
            axes.bar_label(drawn, labels=[shown(one) for one in lengths], padding=3, fontsize=8)
        middle = (len(values) - 1) * step / 2
        axes.set_yticks([row + middle for row in range(len(labels))], labels)
        axes.invert_yaxis()
        axes.set_title(plot.title, loc="left")
        axes.set_xlabel(plot.unit)
        axes.margins(x=0.12)
        axes.spines[["top", "right"]].set_visible(False)
        if len(values) > 1:
            figure.legend(frameon=False, loc="outside upper right", ncols=len(values))
        to.mkdir(exist_ok=True)
        figure.savefig(to / f"{plot.name}.svg", metadata={"Date": None, "Creator": None})


def _colours(names: Iterable[str]) -> dict[str, str]:
    others = iter(_OTHERS)
    return {name: _OURS if name in _OWN else next(others) for name in names}


def shown(value: float) -> str:
    """Return a value as it stands beside its bar."""
    return f"{value:,.0f}" if value >= 100 else f"{value:g}"  # noqa: PLR2004


def main() -> int:
    """Draw all pictures whose pages are there."""
    for plot in PLOTS:
        if (_DOCS / plot.page).is_file():
            draw(plot, _DOCS / "plots")
            print(_DOCS / "plots" / f"{plot.name}.svg")
    return 0


if __name__ == "__main__":
    sys.exit(main())
