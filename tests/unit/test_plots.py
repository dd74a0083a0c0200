"""The pictures of what was measured show what the pages say."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from bench.plots import PLOTS, Plot, number, shown, tables
from bench.report import _ALL

DOCS = Path(__file__).parents[2] / "docs"
TEXT = re.compile(r"<text[^>]*>([^<]*)</text>")


@pytest.mark.parametrize("plot", PLOTS, ids=lambda plot: plot.name)
def test_a_picture_is_of_the_page_as_it_is(plot: Plot) -> None:
    """`make bench-plots` draws them; each value stands beside its bar, each name at the axis."""
    texts = TEXT.findall((DOCS / "plots" / f"{plot.name}.svg").read_text())
    for series, bars in plot.read().items():
        assert bars
        for label, value in bars.items():
            assert {label, shown(value)} <= set(texts), f"{series}: make bench-plots"
            texts.remove(shown(value))


def test_the_page_names_all_that_is_measured() -> None:
    page = (DOCS / "benchmarks.md").read_text()
    assert _ALL in page
    for path in DOCS.glob("benchmarks-*.md"):
        assert f"({path.name})" in page
    for plot in PLOTS:
        assert f"(plots/{plot.name}.svg)" in page


def test_tables_of_a_page() -> None:
    text = "x\n| a | b |\n| --- | --- |\n| 1 s | -2,345.5 (1 to 2) |\n\n| c |\n"
    assert list(tables(text)) == [[["a", "b"], ["1 s", "-2,345.5 (1 to 2)"]], [["c"]]]
    assert number("2,345.5 (1 to 2)") == 2345.5
    with pytest.raises(ValueError, match="has no number"):
        number("-")
