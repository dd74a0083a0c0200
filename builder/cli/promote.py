"""`imgbuild promote`: moves a channel to a version that is released."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import click

from builder.cli import options, signing
from builder.cli.session import session
from builder.core.errors import UserError
from builder.release.channel import Move, move_channel
from builder.release.repository import Repository, locked

_WHAT = re.compile(r"([A-Za-z0-9][A-Za-z0-9.-]*)/([A-Za-z0-9][A-Za-z0-9.-]*)")


@click.command("promote")
@click.argument("version", metavar="IMAGE_ID/VERSION")
@signing.to
@signing.channel
@signing.key
@signing.keyring
@signing.passphrase
@signing.expires
@signing.minimum
@signing.older
@options.debug
def command(
    version: str,
    to: Path,
    channel: str | None,
    keys: tuple[str, ...],
    keyrings: tuple[Path, ...],
    passphrase_file: Path | None,
    lifetime: timedelta,
    minimum: str | None,
    allow_older: bool,
    debug: bool,
) -> None:
    """Move a channel to a version that is in the repository, or renew it before it expires."""
    match = _WHAT.fullmatch(version)
    if match is None:
        hint = "such as imgbuild-cpu/2026.11.1"
        raise UserError(f"{version}: is no IMAGE_ID/VERSION", hint=hint)
    if channel is None:
        raise UserError("which channel?", hint="name it with --channel, such as stable")
    move = Move(match[1], channel, match[2], lifetime, minimum, allow_older)
    with (
        session(debug=debug) as context,
        signing.signing(context, keys, keyrings, passphrase_file) as (signer, work),
        locked(Repository(to)),
    ):
        said = move_channel(Repository(to), signer, move, datetime.now(UTC), work)
        signing.tell_channel(context, said)
