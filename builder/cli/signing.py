"""Options, and what belongs to them, of the commands that sign."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import click

from builder.core.context import Context
from builder.core.events import Note
from builder.model.release import Channel
from builder.release.sign import Signer, make_signer, parse_key

_LIFETIME = re.compile(r"([1-9][0-9]{0,4})([hdw])")
_UNITS = {"h": "hours", "d": "days", "w": "weeks"}
_VERSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9.-]{0,35}")
_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,23}")


class Lifetime(click.ParamType):
    """A time such as 30d."""

    name = "time"

    def convert(
        self,
        value: Any,  # noqa: ANN401
        param: click.Parameter | None,
        ctx: click.Context | None,
    ) -> timedelta:
        """Return a time such as 30d. Raises click.BadParameter."""
        match = _LIFETIME.fullmatch(str(value))
        if match is None:
            self.fail(f"{value!r} is no time such as 36h, 30d or 8w", param, ctx)
        return timedelta(**{_UNITS[match[2]]: int(match[1])})


def version(_ctx: click.Context, _param: click.Parameter, value: str | None) -> str | None:
    """Return a version. Raises click.BadParameter."""
    if value is not None and not _VERSION.fullmatch(value):
        raise click.BadParameter(f"{value!r} is no version")
    return value


def channel_name(_ctx: click.Context, _param: click.Parameter, value: str | None) -> str | None:
    """Return the name of a channel. Raises click.BadParameter."""
    if value is not None and not _NAME.fullmatch(value):
        raise click.BadParameter("use lower-case letters, digits and hyphens, at most 24")
    return value


channel = click.option(
    "--channel", callback=channel_name, help="channel that is moved, such as canary or stable"
)
to = click.option("--to", required=True, type=click.Path(path_type=Path), help="the repository")
key = click.option(
    "--key",
    "keys",
    required=True,
    multiple=True,
    metavar="KEY",
    help="secret key file, gpg:FINGERPRINT or command:PROGRAM; twice: two signatures",
)
keyring = click.option(
    "--keyring",
    "keyrings",
    multiple=True,
    type=click.Path(path_type=Path),
    help="public keys of the nodes, to check the signatures; default: those of --key",
)
passphrase = click.option(
    "--passphrase-file",
    type=click.Path(path_type=Path, exists=True),
    help="first line: the passphrase of the key file",
)
expires = click.option(
    "--expires",
    "lifetime",
    type=Lifetime(),
    default="30d",
    show_default=True,
    help="how long nodes believe the channel's file: 36h, 30d, 8w",
)
minimum = click.option(
    "--minimum", metavar="VERSION", callback=version, help="oldest version that nodes may still run"
)
older = click.option("--allow-older", is_flag=True, help="let the channel go back")


@contextmanager
def signing(
    context: Context, keys: tuple[str, ...], keyrings: tuple[Path, ...], passphrase: Path | None
) -> Iterator[tuple[Signer, Path]]:
    """Give what signs with the keys of a command line, tried once, and a folder to work in."""
    parsed = [parse_key(text, passphrase) for text in keys]
    context.cache.sweep()
    with context.cache.workspace("signing") as work:
        yield make_signer(context.runner, parsed, keyrings, work), work


def tell_channel(context: Context, said: Channel) -> None:
    """Tell what a channel says now."""
    floor = f", minimum {said.minimum}" if said.minimum else ""
    until = f"until {said.expires:%Y-%m-%d %H:%M} UTC"
    name = f"channel {said.image_id}/{said.channel}"
    context.emit(Note("info", f"{name}: {said.version}, serial {said.serial}{floor}, {until}"))
