"""`imgbuild keys`: makes and shows the keys of releases, makes those of Secure Boot and TPMs."""

from __future__ import annotations

import time
from pathlib import Path

import click

from builder.bootkeys.make import new_boot_keys, new_pcr_key
from builder.cli import options
from builder.cli.session import session
from builder.cli.tables import show, table
from builder.core.gpg import PublicKey, need_programs, show_keys
from builder.release.keys import new_key


@click.group("keys")
def command() -> None:
    """Make a release key, those of Secure Boot or of TPMs, or show what a key file holds."""


@command.command("new")
@click.option("--to", required=True, type=click.Path(path_type=Path), help="folder for both halves")
@click.option("--name", default="release", show_default=True, help="name of the key and its files")
@click.option(
    "--passphrase-file",
    type=click.Path(path_type=Path, exists=True),
    help="first line: a passphrase for the secret half",
)
@options.debug
def new(to: Path, name: str, passphrase_file: Path | None, debug: bool) -> None:
    """Make an Ed25519 key: NAME.secret.asc, to sign with, and NAME.gpg, for nodes."""
    with session(debug=debug) as context:
        made = new_key(context, to, name, passphrase_file)
    print(f"secret       {made.secret}\npublic       {made.public}")
    print(f"fingerprint  {made.key.fingerprint}")


@command.command("secure-boot")
@click.option("--to", required=True, type=click.Path(path_type=Path), help="folder for the keys")
@click.option("--name", default="imgbuild", show_default=True, help="name in the certificates")
@click.option(
    "--trust",
    "trusted",
    multiple=True,
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="certificate that db believes besides, such as that of option ROMs or of an older key",
)
@options.debug
def secure_boot(to: Path, name: str, trusted: tuple[Path, ...], debug: bool) -> None:
    """Make PK, KEK and db: keys, certificates, and .auth files that enrol them.

    A build needs db.key, db.crt and the .auth files (secure_boot of a site); keep PK.key and
    KEK.key where no build reaches them.
    """
    with session(debug=debug) as context:
        made = new_boot_keys(context, to, name, trusted)
    for file in made.files:
        print(made.folder / file)


@command.command("pcr")
@click.option("--to", required=True, type=click.Path(path_type=Path), help="folder for both halves")
@options.debug
def pcr(to: Path, debug: bool) -> None:
    """Make pcr.key and pcr.pub, by which TPMs know the site's images (pcr_key of a site).

    What a node has sealed to its TPM opens for every image that pcr.key signed: keep it close.
    """
    with session(debug=debug) as context:
        made = new_pcr_key(context, to)
    for file in made.files:
        print(made.folder / file)


@command.command("show")
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path, exists=True))
def show_files(files: tuple[Path, ...]) -> None:
    """Show the keys in files, such as the keyring of a site."""
    need_programs("gpg", "bwrap")
    rows = table("FINGERPRINT", "HALF", "MADE", "EXPIRES", "STATE", "NAME")
    with session() as context:
        for key in (key for path in files for key in show_keys(context.runner, path)):
            half, state = ("secret" if key.secret else "public"), ("good" if key.usable else "BAD")
            rows.add_row(key.fingerprint, half, _day(key.created), _end(key), state, key.user)
    show(rows)


def _end(key: PublicKey) -> str:
    return "never" if key.expires is None else _day(key.expires)


def _day(moment: int) -> str:
    return time.strftime("%Y-%m-%d", time.gmtime(moment))
