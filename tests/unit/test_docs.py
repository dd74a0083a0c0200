"""The pages name every command that there is, with options that there are, and no other."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import click
import pytest

from builder.cli.main import imgbuild
from imgnode import cli, metrics
from imgnode.exporter import names

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "NEWS.md", *sorted((ROOT / "docs").rglob("*.md"))]
ROOMS = ("builder", "imgnode", "image", "config", "overlays", "units", "fleet", "monitoring")
OTHERS = {"docs/web-configuration.md"}  # of Prometheus' exporter-toolkit
CODE = re.compile(r"`([^`\n]+(?:\n[^`\n]+)?)`|^ {4,}(.+)$", re.MULTILINE)
CALL = re.compile(r"(?<![\w./-])(imgbuild|imgnode) (?=[a-z-])([^|;#(`]*)")
GLOBAL = {"--help", "--version"}
Commands = Mapping[str, set[str]]  # "cache prune" → its options; groups have theirs, too


def of_click(group: click.Group, before: tuple[str, ...] = ()) -> Iterator[tuple[str, set[str]]]:
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        path = (*before, name)
        if isinstance(command, click.Group):
            yield from of_click(command, path)
        else:
            options = {word for one in command.params for word in (*one.opts, *one.secondary_opts)}
            yield " ".join(path), options


def of_argparse(
    parser: argparse.ArgumentParser, before: tuple[str, ...] = ()
) -> Iterator[tuple[str, set[str]]]:
    groups = [one for one in parser._actions if isinstance(one, argparse._SubParsersAction)]
    if not groups or not groups[0].required:
        yield " ".join(before), {word for one in parser._actions for word in one.option_strings}
    for group in groups:
        for name, inner in group.choices.items():
            yield from of_argparse(inner, (*before, name))


@pytest.fixture
def there() -> dict[str, Commands]:
    """Return every command of both programs, with its options."""
    return {"imgbuild": dict(of_click(imgbuild)), "imgnode": dict(of_argparse(cli.parser()))}


def calls(page: Path) -> Iterator[tuple[str, list[str]]]:
    """Yield program and words of every call in a code span or an indented block."""
    for code in CODE.finditer(page.read_text()):
        for program, rest in CALL.findall(code[1] or code[2]):
            yield program, rest.split()


def command(words: list[str], known: Commands) -> str | None:
    """Return the command that the words begin with; None for one that is not there."""
    for length in (2, 1):
        if " ".join(words[:length]) in known:
            return " ".join(words[:length])
    return None


def test_every_command_is_named(there: dict[str, Commands]) -> None:
    named = {
        (program, command(words, there[program])) for p in PAGES for program, words in calls(p)
    }
    missing = {
        f"{program} {name}"
        for program, known in there.items()
        for name in known
        if (program, name) not in named
    }
    assert not missing


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_no_page_names_what_is_not_there(there: dict[str, Commands], page: Path) -> None:
    groups = {name.split()[0] for known in there.values() for name in known if " " in name}
    for program, words in calls(page):
        if words[0] in GLOBAL or (words[0] in groups and len(words) == 1):
            continue
        name = command(words, there[program])
        assert name, f"{page.name}: {program} {' '.join(words)}"
        given = {word.split("=")[0] for word in words if re.match(r"--?[a-z]", word)}
        unknown = given - there[program][name] - GLOBAL
        assert not unknown, f"{page.name}: {program} {name}: {unknown}"


def test_every_metric_is_told() -> None:
    known = {*metrics.HELP, *names.HELP}
    text = (ROOT / "docs/reference/metrics.md").read_text()
    assert {name for name in known if f"`{name}`" not in text} == set()
    for page in PAGES:
        assert set(re.findall(r"\bimgnode_[a-z_]+", page.read_text())) <= known, page


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text()):
        assert (page.parent / target).exists(), f"{page.name}: {target}"


@pytest.mark.parametrize("room", ROOMS)
def test_pages_that_messages_and_files_name_are_there(room: str) -> None:
    """Hints of errors and comments of units send people to pages."""
    for path in (ROOT / room).rglob("*"):
        if path.is_file() and path.suffix not in {".pyc", ".png", ".gpg"}:
            text = path.read_text(errors="replace")
            for name in re.findall(r"(?<![\w/])docs/[a-z/-]+\.md", text):
                assert name in OTHERS or (ROOT / name).is_file(), (
                    f"{path.relative_to(ROOT)}: {name}"
                )
