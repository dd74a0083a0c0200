"""`imgbuild release`: from an output folder to what nodes update from."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import click
from rich.filesize import decimal

from builder.cli import options, signing
from builder.cli.session import session
from builder.compare.manifest import read_manifest
from builder.core.events import Note
from builder.core.gpg import need_programs
from builder.model.artifacts import SPDX
from builder.release.channel import Move, check_move, move_channel
from builder.release.publish import Image, Wanted, publish
from builder.release.repository import Repository, locked, read_release


@click.command("release")
@click.argument("image", type=click.Path(path_type=Path))
@signing.to
@signing.key
@signing.keyring
@signing.passphrase
@signing.channel
@click.option(
    "--patches",
    type=click.IntRange(0, 20),
    default=3,
    show_default=True,
    help="from so many older versions",
)
@click.option("--with-disk", is_flag=True, help="bring the disk image, too, for flashing")
@signing.expires
@signing.minimum
@signing.older
@options.debug
def command(
    image: Path,
    to: Path,
    keys: tuple[str, ...],
    keyrings: tuple[Path, ...],
    passphrase_file: Path | None,
    channel: str | None,
    patches: int,
    with_disk: bool,
    lifetime: timedelta,
    minimum: str | None,
    allow_older: bool,
    debug: bool,
) -> None:
    """Put an image into a release repository: compressed, with patches, signed.

    IMAGE is a folder that imgbuild build made. A version appears whole or not at all; one
    that is there is never changed.
    """
    manifest = read_manifest(image)
    made = Image(image if image.is_dir() else image.parent, manifest)
    image_id, version = manifest.image_id, manifest.version
    move = None
    if channel:
        move = Move(image_id, channel, version, lifetime, minimum, allow_older)
    need_programs("zstd")
    with (
        session(debug=debug) as context,
        signing.signing(context, keys, keyrings, passphrase_file) as (signer, work),
        locked(Repository(to)),
    ):
        repository = Repository(to)
        if move:
            check_move(repository, move)
        if not (made.folder / SPDX).is_file():
            hint = "imgbuild sbom makes one"
            context.emit(Note("warning", f"{image_id} {version} has no bill of materials ({hint})"))
        changed = publish(context, made, repository, signer, Wanted(patches, with_disk))
        state = "released" if changed else "unchanged"
        context.emit(Note("info", f"{image_id} {version} {state}: {_sizes(repository, made)}"))
        if move:
            said = move_channel(repository, signer, move, datetime.now(UTC), work)
            signing.tell_channel(context, said)
    print(repository.version(image_id, version))


def _sizes(repository: Repository, image: Image) -> str:
    """Return what a node fetches: everything, and with each patch."""
    found = read_release(repository.version(image.manifest.image_id, image.manifest.version))
    whole = sum(part.full.bytes for part in found.parts)
    told = [f"{decimal(whole)} in full"]
    for old in dict.fromkeys(patch.from_version for part in found.parts for patch in part.patches):
        patched = sum(
            p.bytes for part in found.parts for p in part.patches if p.from_version == old
        )
        told.append(f"{decimal(patched)} from {old} ({100 * patched / whole:.1f} %)")
    return ", ".join(told)
