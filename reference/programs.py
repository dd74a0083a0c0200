"""Man pages and shell completion of both programs, made of the parsers that they run."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from copy import copy
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory

import click
import shtab
from argparse_manpage.manpage import Manpage
from click.shell_completion import BashComplete, FishComplete, ShellComplete, ZshComplete
from click_man.core import write_man_pages

from builder.cli.main import imgbuild
from imgnode.cli import parser

_COLUMNS = "80"
_SENTENCE = 200  # characters at most
_UNDATED = " "  # a page changes with what it is about, not with the day
_SHELLS: dict[str, type[ShellComplete]] = {
    "imgbuild.bash": BashComplete,
    "_imgbuild": ZshComplete,
    "imgbuild.fish": FishComplete,
}


def man_pages() -> dict[str, str]:
    """Return every man page by its file's name: one for each imgbuild command, one for imgnode."""
    with TemporaryDirectory() as folder, _narrow():
        write_man_pages(
            "imgbuild", _whole(), version=version("imgbuild"), target_dir=folder, date=_UNDATED
        )
        made = {path.name: _guarded(path.read_text()) for path in Path(folder).iterdir()}
        return made | {"imgnode.1": _imgnode()}


def completions() -> dict[str, str]:
    """Return the scripts that shells read, by their file's names."""
    asked = {
        # Not the shell's own source(): that starts bash to ask for its version.
        name: ShellComplete.source(shell(imgbuild, {}, "imgbuild", "_IMGBUILD_COMPLETE"))
        for name, shell in _SHELLS.items()
    }
    with _narrow():
        node = {"imgnode.bash": "bash", "_imgnode": "zsh"}
        made = {name: shtab.complete(parser(), shell=shell) for name, shell in node.items()}
    return {name: f"{text.strip()}\n" for name, text in (asked | made).items()}


def _whole() -> click.Group:
    """Return the command with all its commands loaded: they are imported when they are called."""
    context = click.Context(imgbuild)
    found = (
        (name, imgbuild.get_command(context, name)) for name in imgbuild.list_commands(context)
    )
    return click.Group(
        "imgbuild",
        commands={name: _told(command) for name, command in found if command},
        params=imgbuild.params,
        help=imgbuild.help,
        short_help=imgbuild.get_short_help_str(_SENTENCE),
        context_settings=imgbuild.context_settings,
    )


def _told(command: click.Command) -> click.Command:
    """Return the command with its whole first sentence as its short help: click-man cuts it."""
    copied = copy(command)
    copied.short_help = command.get_short_help_str(_SENTENCE)
    if isinstance(copied, click.Group):
        copied.commands = {name: _told(one) for name, one in copied.commands.items()}
    return copied


def _imgnode() -> str:
    page = Manpage(parser(), format="single-commands-section")
    page.date, page.manual = _UNDATED, "imgnode Manual"
    page.source = f"imgnode {version('imgbuild')}"
    page.description = parser().description
    return str(page)


def _guarded(page: str) -> str:
    """Keep roff from taking a line of text for a request: click-man passes on what help says."""
    lines = page.splitlines()
    return "".join(
        f"\\&{line}\n"
        if line[:1] == "'" or (line[:1] == "." and line[1:2].islower())
        else f"{line}\n"
        for line in lines
    )


@contextmanager
def _narrow() -> Iterator[None]:
    """Let argparse wrap its lines as in a terminal of one width, whoever runs this."""
    before = os.environ.get("COLUMNS")
    os.environ["COLUMNS"] = _COLUMNS
    try:
        yield
    finally:
        if before is None:
            del os.environ["COLUMNS"]
        else:
            os.environ["COLUMNS"] = before
