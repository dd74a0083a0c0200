"""Every command line of the pages is one that the programs take; every anchor is a heading."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from builder.cli.main import imgbuild
from imgnode.cli import parser
from tests.unit.test_docs import PAGES, ROOT

BLOCK = re.compile(r"(?m)^(?: {4}.*\n?)+")
COMMENT = re.compile(r"(^|\s)#.*$")
CALL = re.compile(r"^(?:sudo )?(?P<program>imgbuild|imgnode) (?P<rest>[a-z-].*)$")
LINK = re.compile(r"\]\((?P<page>[^)#:\s]*)#(?P<anchor>[^)\s]+)\)")
README = ROOT / "README.md"
TOUR = [README, ROOT / "docs/tutorial.md", *sorted((ROOT / "docs/howto").glob("*.md"))]


def lines(page: Path) -> Iterator[str]:
    """Yield the commands of a page's indented blocks, with what a backslash continues."""
    for block in BLOCK.findall(page.read_text()):
        text = "\n".join(COMMENT.sub("", line) for line in block.splitlines())
        for line in re.sub(r"\\\n\s*", " ", text).splitlines():
            yield from (part.strip() for part in re.split(r";|&&|\|(?!\|)", line))
    if page == README:  # its commands stand in a table
        for cell in re.findall(r"(?m)^\| (`[^|]+`) \|", page.read_text()):
            yield from re.findall(r"`([^`]+)`", cell)


def calls() -> Iterator[tuple[str, str, list[str]]]:
    for page in PAGES:
        for line in lines(page):
            if match := CALL.match(line):
                rest = re.sub(r"\s[0-9]?>.*$", "", match["rest"])
                yield str(page.relative_to(ROOT)), match["program"], shlex.split(rest)


CALLS = list(calls())


@pytest.fixture(autouse=True)
def _any_file(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take files as given: those of an example are not here."""
    monkeypatch.setattr(click.Path, "convert", lambda _self, value, _param, _ctx: Path(value))


def parse(command: click.Command, name: str, words: list[str], above: click.Context | None) -> None:
    """Let click read a command line to its end, as it does before anything runs."""
    context = command.make_context(name, words, parent=above)
    if isinstance(command, click.Group):
        left = [*context.protected_args, *context.args]
        found, inner, rest = command.resolve_command(context, left)
        assert found is not None
        assert inner is not None
        parse(inner, found, rest, context)


@pytest.mark.parametrize(
    ("page", "program", "words"), CALLS, ids=[f"{p}: {n} {' '.join(w)}" for p, n, w in CALLS]
)
def test_a_line_is_taken(page: str, program: str, words: list[str]) -> None:
    try:
        if program == "imgbuild":
            parse(imgbuild, program, words, None)
        else:
            parser().parse_args(words)
    except click.ClickException as error:
        pytest.fail(f"{page}: {program} {' '.join(words)}: {error.format_message()}")
    except SystemExit:
        pytest.fail(f"{page}: {program} {' '.join(words)}")


def test_targets_of_make_are_there() -> None:
    targets = set(re.findall(r"(?m)^([a-z-]+):", (ROOT / "Makefile").read_text()))
    for page in PAGES:
        named = re.findall(r"(?:^ {4}|`)make ([a-z-]+)", page.read_text(), re.MULTILINE)
        assert set(named) <= targets, page.name


def test_pages_for_a_start_are_looked_at() -> None:
    found = {page for page, _, _ in CALLS}
    assert {str(page.relative_to(ROOT)) for page in TOUR} <= found
    assert len(CALLS) > 60


@pytest.mark.parametrize(
    ("program", "words"),
    [
        ("imgbuild", ["build"]),
        ("imgbuild", ["build", "-p", "cpu", "--colour"]),
        ("imgbuild", ["keys", "old", "--to", "x"]),
        ("imgbuild", ["boot", "--accel", "xen"]),
        ("imgnode", ["layers", "wash"]),
    ],
)
def test_a_wrong_line_would_be_found(program: str, words: list[str]) -> None:
    with pytest.raises(pytest.fail.Exception):
        test_a_line_is_taken("page", program, words)


def slugs(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    titles = re.findall(r"(?m)^#+ (.+)$", page.read_text())
    plain = (re.sub(r"[^\w\- ]", "", title.lower()) for title in titles)
    return {title.strip().replace(" ", "-") for title in plain}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_anchors_are_headings(page: Path) -> None:
    for match in LINK.finditer(page.read_text()):
        target = (page.parent / match["page"]) if match["page"] else page
        assert match["anchor"] in slugs(target), f"{page.name}: {match[0]}"
