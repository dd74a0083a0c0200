"""Moves a channel to a version of the repository, in one step."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from builder.core.errors import UserError
from builder.core.files import write_atomic
from builder.core.gpg import check_signature
from builder.core.hashing import sha256_file
from builder.model.release import Channel
from builder.release.repository import (
    RELEASE,
    SIGNATURE,
    SUMS,
    Repository,
    damaged,
    read_channel,
    read_release,
)
from builder.release.sign import Signer
from imgnode.release.signature import BadSignature, join_signed
from imgnode.release.sums import parse_sums
from imgnode.release.versions import is_older

_FORCE = "--allow-older says that this is meant"


@dataclass(frozen=True)
class Move:
    """A channel of an image, and what it shall say."""

    image_id: str
    channel: str
    version: str
    lifetime: timedelta
    minimum: str | None = None
    allow_older: bool = False


def check_move(repository: Repository, move: Move) -> Channel | None:
    """Return what the channel says now. Raises UserError for a step back that is not meant."""
    current = read_channel(repository.channel(move.image_id, move.channel))
    minimum = _minimum(current, move)
    if minimum and is_older(move.version, minimum):
        raise UserError(
            f"{move.channel}: {move.version} is older than the minimum, {minimum}",
            hint="give --minimum, and --allow-older if it goes down",
        )
    if current is None or move.allow_older:
        return current
    if is_older(move.version, current.version):
        raise UserError(
            f"{move.channel}: is at {current.version}, and {move.version} is older", hint=_FORCE
        )
    if current.minimum and minimum and is_older(minimum, current.minimum):
        raise UserError(
            f"{move.channel}: the minimum is {current.minimum}, and {minimum} is older",
            hint=_FORCE,
        )
    return current


def move_channel(
    repository: Repository, signer: Signer, move: Move, now: datetime, work: Path
) -> Channel:
    """Sign and write the channel's file; the repository is locked. Return what it says.

    The serial is the time in seconds, or one more than before: it grows even when the file
    was lost. Raises UserError when the version is not there, or is not signed by a known key.
    """
    current = check_move(repository, move)
    folder = repository.version(move.image_id, move.version)
    _check_version(signer, folder, move)
    serial = max(int(now.timestamp()), current.serial + 1 if current else 1)
    channel = Channel(
        image_id=move.image_id,
        channel=move.channel,
        serial=serial,
        version=move.version,
        sums_sha256=sha256_file(folder / SUMS),
        minimum=_minimum(current, move),
        created=now,
        expires=now + move.lifetime,
    )
    text = channel.model_dump_json(indent=1) + "\n"
    target = repository.channel(move.image_id, move.channel)
    write_atomic(target, join_signed(text, signer.sign(text, work)))
    return channel


def _minimum(current: Channel | None, move: Move) -> str | None:
    return move.minimum or (current.minimum if current else None)


def _check_version(signer: Signer, folder: Path, move: Move) -> None:
    """Never put a good name on what somebody else has put into the repository."""
    if not (folder / SUMS).is_file():
        hint = "imgbuild release puts a version there"
        raise UserError(f"{folder}: there is no such version", hint=hint)
    try:
        check_signature(signer.runner, signer.keyring, folder / SIGNATURE, folder / SUMS)
        listed = parse_sums((folder / SUMS).read_text())
        digest = sha256_file(folder / RELEASE)
    except BadSignature as error:
        hint = "is it released with another key? name both public halves with --keyring"
        raise UserError(f"{folder / SIGNATURE}: {error}", hint=hint) from None
    except (OSError, ValueError) as error:
        raise damaged(folder / SUMS, error) from None
    if listed.get(RELEASE) != digest:
        raise damaged(folder / RELEASE, ValueError("is not the file that was signed"))
    release = read_release(folder)
    if (release.image_id, release.version) != (move.image_id, move.version):
        said = f"is {release.image_id}/{release.version}"
        raise damaged(folder / RELEASE, ValueError(said))
