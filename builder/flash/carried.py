"""What an installer's stick takes along: one version of a repository, and a channel that names it.

Every file is compared with what was signed before it is taken.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from builder.core.errors import UserError
from builder.core.gpg import check_signature
from builder.core.hashing import sha256_file
from builder.core.process import Runner
from builder.flash.source import VERIFY, check_listed, read_manifest, signed_sums
from builder.model.artifacts import Manifest
from builder.model.release import Channel, Release
from imgnode.release.signature import BadSignature, split_signed

_TEXTS = ("SHA256SUMS", "SHA256SUMS.gpg", "release.json", "manifest.json")
_ENDING = ".json.asc"


@dataclass(frozen=True)
class Carried:
    """A version: its manifest, its channel, and its files by their place in the repository."""

    manifest: Manifest
    channel: str
    files: dict[str, Path]

    @property
    def title(self) -> str:
        """Which image it is."""
        return f"{self.manifest.image_id} {self.manifest.version}"


def find_carried(
    runner: Runner, folder: Path, channel: str | None, keyring: Path | None, work: Path
) -> Carried:
    """Return what a stick needs of REPOSITORY/IMAGE_ID/VERSION; `channel` None: any.

    With a `keyring`, version and channel must be signed by one of its keys. Raises UserError.
    """
    folder = folder.absolute()
    if not all((folder / name).is_file() for name in _TEXTS):
        hint = "give REPOSITORY/IMAGE_ID/VERSION of a release; imgbuild release makes one"
        raise UserError(
            f"{folder}: is no released version, and installers take no other", hint=hint
        )
    listed = signed_sums(runner, folder, keyring)
    for name in _TEXTS[2:]:
        check_listed(folder / name, listed)
    manifest, repository = read_manifest(folder), folder.parents[1]
    named = _channel(runner, folder, channel, keyring, work)
    files = {str(named.relative_to(repository)): named}
    for name in (*_TEXTS, *_parts(folder)):
        if name not in _TEXTS:
            check_listed(folder / name, listed)
        files[f"{manifest.image_id}/{manifest.version}/{name}"] = folder / name
    for layer in manifest.payload.files:
        path = repository / "layers" / layer.name
        check_listed(path, {path.name: layer.sha256})
        files[f"layers/{layer.name}"] = path
    return Carried(manifest, named.name.removesuffix(_ENDING), files)


def _parts(folder: Path) -> list[str]:
    try:
        release = Release.model_validate_json((folder / "release.json").read_bytes())
    except ValidationError:
        raise UserError(f"{folder / 'release.json'}: cannot be understood", hint=VERIFY) from None
    return [part.full.name for part in release.parts]


def _channel(
    runner: Runner, folder: Path, wanted: str | None, keyring: Path | None, work: Path
) -> Path:
    """Return the file of a channel that names this very version. Raises UserError."""
    place = folder.parents[1] / "channels" / folder.parent.name
    sums = sha256_file(folder / "SHA256SUMS")
    found = []
    for path in sorted(place.glob(f"{wanted or '*'}{_ENDING}")):
        said = _read_channel(runner, path, keyring, work)
        if (said.version, said.sums_sha256) == (folder.name, sums):
            found.append(path)
    if not found:
        who = f"channel {wanted} does not name" if wanted else "no channel names"
        fact = f"{place}: {who} {folder.name}, so an installer would not find it"
        raise UserError(fact, hint="imgbuild promote lets a channel name it")
    return next((one for one in found if one.name == f"stable{_ENDING}"), found[0])


def _read_channel(runner: Runner, path: Path, keyring: Path | None, work: Path) -> Channel:
    try:
        text, signature = split_signed(path.read_text())
        if keyring:
            data, signed = work / "channel.json", work / "channel.sig"
            data.write_text(text)
            signed.write_text(signature)
            check_signature(runner, keyring, signed, data)
        return Channel.model_validate_json(text)
    except BadSignature as error:
        hint = "trust nothing of it, or name the right --keyring"
        raise UserError(f"{path}: {error}", hint=hint) from None
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be understood: {error}", hint=VERIFY) from None
