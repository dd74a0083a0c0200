"""`imgbuild seed`: writes and checks what makes a node itself."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import click

from builder.cli import options
from builder.core.errors import ConfigError, UserError
from builder.core.paths import Project
from builder.resolve import load_shapes, resolve
from builder.seed.check import Board, Report, check_seed
from builder.seed.example import example_seed
from imgnode.cloudkeys import check_user
from imgnode.seed import LIMITS, USER

_profile = click.option("--profile", "-p", metavar="NAME", help="the node's profile: its GPUs")


@click.group("seed")
def command() -> None:
    """Write an example seed, or check one before it is flashed."""


@command.command("new")
@_profile
@options.site
@click.option("--hostname", default="gpu-01", show_default=True, help="the node's name")
@click.option("--output", "-o", type=click.Path(path_type=Path), help="file; default: stdout")
def new(profile: str | None, site: str, hostname: str, output: Path | None) -> None:
    """Write a seed with every key explained."""
    for wrong in check_user({"hostname": hostname}).values():
        raise UserError(f"--{wrong}")
    if profile is not None:
        resolve(Project.find(), profile, site)
    text = example_seed(hostname, profile, active=frozenset({"model", "max_model_len"}))
    if output is None:
        print(text, end="")
        return
    try:
        with output.open("x") as stream:
            stream.write(text)
    except FileExistsError:
        raise UserError(f"{output}: is there already", hint="name another file") from None


@command.command("check")
@click.argument("file", type=click.Path(path_type=Path))
@_profile
@options.site
@click.option("--json", "as_json", is_flag=True, help="for machines")
def check(file: Path, profile: str | None, site: str, as_json: bool) -> None:
    """Say everything that is wrong with a seed (exit 2), or what it means."""
    project = Project.find()
    board = None
    if profile is not None:
        board = Board(profile, resolve(project, profile, site).profile.gpu)
    report = check_seed(_read(file), board, load_shapes(project))
    if as_json:
        print(json.dumps(_plain(report), indent=1))
        raise click.exceptions.Exit(2 if report.problems else 0)
    if report.problems:
        raise ConfigError([f"{file}: {problem}" for problem in report.problems])
    print(f"{file}: good")
    print(f"hostname: {report.hostname or '(the profile default)'}")
    for key, value in report.config.settings().items() if report.config else ():
        print(f"inference.{key}: {json.dumps(value)}")
    for key, value in report.backup.settings().items() if report.backup else ():
        print(f"backup.{key}: {json.dumps(value)}")
    for note in report.notes:
        print(f"note: {note}")


def _plain(report: Report) -> dict[str, object]:
    config = report.config.settings() if report.config else None
    backup = report.backup.settings() if report.backup else None
    return {**asdict(report), "config": config, "backup": backup}


def _read(file: Path) -> bytes:
    try:
        with file.open("rb") as stream:
            return stream.read(LIMITS[USER] + 1)
    except OSError as error:
        raise UserError(
            f"{file}: cannot be read: {error.strerror}", hint="imgbuild seed new writes an example"
        ) from None
