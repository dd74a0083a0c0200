"""`imgbuild verify`: whether a release is good, believing nothing in it."""

from __future__ import annotations

import re
from pathlib import Path

import click

from builder.cli import options
from builder.cli.session import session
from builder.core.errors import UserError
from builder.core.gpg import need_programs, public_keyring
from builder.release.fetch import fetch_channel
from builder.release.repository import SUMS, Repository
from builder.release.survey import check_channels, check_repository
from builder.release.verify import Check, begin, check_version

_CHANNEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9.-]*/[a-z0-9][a-z0-9-]*")


@click.command("verify")
@click.argument("where", metavar="WHERE")
@click.option(
    "--keyring",
    "keyrings",
    required=True,
    multiple=True,
    type=click.Path(path_type=Path),
    help="public keys that are trusted",
)
@click.option(
    "--channel",
    "channels",
    multiple=True,
    metavar="IMAGE_ID/CHANNEL",
    help="only this channel and the version that it leads to; needed for an address",
)
@options.debug
def command(where: str, keyrings: tuple[Path, ...], channels: tuple[str, ...], debug: bool) -> None:
    """Check a release repository, one version's folder, or a channel on a web server.

    Signatures, sums, what files say of each other; parts are unpacked, patches applied, the
    root hash is worked out again. Exit 1 when something is not good.
    """
    need_programs("gpg", "gpgv", "zstd", "bwrap")
    pairs = [_pair(text) for text in channels]
    with session(debug=debug) as context, context.cache.workspace("verify") as work:
        keyring, scratch, mirror = work / "keyring.gpg", work / "scratch", work / "mirror"
        public_keyring(context.runner, keyrings, keyring)
        scratch.mkdir()
        mirror.mkdir()
        remote = where.startswith(("http://", "https://"))
        root = mirror if remote else Path(where).absolute()
        check = begin(context, Repository(root), keyring, scratch)
        if remote:
            _remote(check, where, pairs)
        else:
            check = _local(check, root, pairs)
    for line in check.verdict.checked:
        print(f"good: {line}")
    for problem in check.verdict.problems:
        print(f"BAD: {problem.where}: {problem.what}")
    if check.verdict.problems:
        raise click.exceptions.Exit(1)


def _remote(check: Check, address: str, pairs: list[tuple[str, str]]) -> None:
    if not pairs:
        hint = "a web server has no list of its files: name a channel with --channel"
        raise UserError(f"{address}: which channel?", hint=hint)
    for image_id, channel in pairs:
        fetch_channel(check, address, image_id, channel)
    check_channels(check, pairs)


def _local(check: Check, root: Path, pairs: list[tuple[str, str]]) -> Check:
    if not root.is_dir():
        raise UserError(f"{root}: there is no such folder", hint="name a repository, or an address")
    if pairs:
        check_channels(check, pairs)
        return check
    if not (root / SUMS).exists():
        check_repository(check)
        return check
    above = begin(check.context, Repository(root.parents[1]), check.keyring, check.work)
    check_version(above, root.parent.name, root.name)
    return above


def _pair(text: str) -> tuple[str, str]:
    if not _CHANNEL.fullmatch(text):
        raise UserError(f"{text}: is no IMAGE_ID/CHANNEL", hint="such as imgbuild-cpu/stable")
    image_id, _, channel = text.partition("/")
    return image_id, channel
