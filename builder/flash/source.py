"""Where the image comes from: a folder that imgbuild build made, or a version of a release."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import IO

from pydantic import ValidationError

from builder.core.blockmap import ENDING, BlockMap, read_map
from builder.core.blockscan import scan
from builder.core.errors import UserError
from builder.core.gpg import check_signature
from builder.core.hashing import sha256_file
from builder.core.process import Runner
from builder.flash.target import PIECE
from builder.flash.write import Reader
from builder.model.artifacts import Manifest
from builder.model.release import Release
from imgnode.release.signature import BadSignature
from imgnode.release.sums import parse_sums

_SUMS, _SIGNATURE = "SHA256SUMS", "SHA256SUMS.gpg"
_MANIFEST, _RELEASE = "manifest.json", "release.json"
_PIPE = 1 << 20


@dataclass(frozen=True)
class Source:
    """An image: its manifest, its map, the file that holds it."""

    manifest: Manifest
    map: BlockMap
    file: Path

    @property
    def title(self) -> str:
        """Which image it is."""
        return f"{self.manifest.image_id} {self.manifest.version}"

    @property
    def least_bytes(self) -> int:
        """How large a disk must be."""
        return max(self.map.image_bytes, self.manifest.disk.least_bytes or 0)

    @contextlib.contextmanager
    def reader(self, runner: Runner) -> Iterator[Reader]:
        """Open the image for reading once, from its beginning to its end."""
        if self.file.suffix != ".zst":
            with self.file.open("rb", buffering=0) as stream:
                yield ImageFile(stream)
            return
        with runner.reading(["zstd", "--decompress", "--stdout", "--quiet", self.file]) as stream:
            yield _Pipe(stream)


def find_source(runner: Runner, folder: Path, keyring: Path | None) -> Source:
    """Return the image in a folder of imgbuild build, or of a released version.

    With a `keyring`, a version must be signed by one of its keys: then every byte is the one
    that was signed. Raises UserError.
    """
    if not (folder / _MANIFEST).is_file():
        hint = "give a folder made by imgbuild build, or REPOSITORY/IMAGE_ID/VERSION"
        raise UserError(f"{folder}: there is no image", hint=hint)
    if (folder / _SUMS).is_file():
        return _released(runner, folder, keyring)
    if keyring is not None:
        hint = "leave out --keyring, or name the folder of a released version"
        raise UserError(f"{folder}: is not released, so nobody has signed it", hint=hint)
    manifest = read_manifest(folder)
    disk = folder / manifest.disk.name
    if not disk.is_file():
        raise UserError(f"{disk}: is missing", hint="build the image again")
    written = folder / f"{disk.name}{ENDING}"
    return _fitting(manifest, read_map(written) if written.is_file() else scan(disk), disk)


def _released(runner: Runner, folder: Path, keyring: Path | None) -> Source:
    listed = signed_sums(runner, folder, keyring)
    for name in (_MANIFEST, _RELEASE):
        check_listed(folder / name, listed)
    manifest = read_manifest(folder)
    try:
        disk = Release.model_validate_json((folder / _RELEASE).read_bytes()).disk
    except ValidationError:
        raise UserError(f"{folder / _RELEASE}: cannot be understood", hint=VERIFY) from None
    if disk is None or disk.bmap is None:
        hint = "release the image with --with-disk, or flash the folder that it was built into"
        raise UserError(f"{folder}: the release brings no disk image with a block map", hint=hint)
    path = folder / disk.bmap.name
    check_listed(path, listed)
    file = folder / disk.name
    if not file.is_file() or file.stat().st_size != disk.bytes:
        raise UserError(f"{file}: is missing or cut short", hint=VERIFY)
    return _fitting(manifest, read_map(path), file)


VERIFY = "imgbuild verify says all that is wrong with a repository"


def signed_sums(runner: Runner, folder: Path, keyring: Path | None) -> dict[str, str]:
    """Return the digests that a version's signed list names, by file. Raises UserError."""
    path = folder / _SUMS
    try:
        if keyring:
            check_signature(runner, keyring, folder / _SIGNATURE, path)
        return parse_sums(path.read_text())
    except BadSignature as error:
        hint = "trust nothing of it, or name the right --keyring"
        raise UserError(f"{folder / _SIGNATURE}: {error}", hint=hint) from None
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: {error}", hint=VERIFY) from None


def check_listed(path: Path, listed: dict[str, str]) -> None:
    """Raise UserError unless a file is the one that the list names."""
    if not path.is_file() or listed.get(path.name) != sha256_file(path):
        raise UserError(f"{path}: is not the file that was signed", hint=VERIFY)


def read_manifest(folder: Path) -> Manifest:
    """Return the manifest in the folder of an image. Raises UserError."""
    path = folder / _MANIFEST
    try:
        return Manifest.model_validate_json(path.read_bytes())
    except (OSError, ValidationError):
        hint = "it is damaged, or of another version of imgbuild: build the image again"
        raise UserError(f"{path}: cannot be understood", hint=hint) from None


def _fitting(manifest: Manifest, found: BlockMap, disk: Path) -> Source:
    if found.image_bytes != manifest.disk.bytes:
        fact = f"{disk}: its block map is of {found.image_bytes} bytes, not {manifest.disk.bytes}"
        raise UserError(fact, hint="build or release the image again")
    return Source(manifest, found, disk)


class ImageFile:
    """A plain image: holes are never read."""

    def __init__(self, stream: FileIO) -> None:
        self._stream = stream

    def read(self, offset: int, view: memoryview) -> None:
        """Fill `view` from the image."""
        done = 0
        while done < len(view):
            count = os.preadv(self._stream.fileno(), [view[done:]], offset + done)
            if not count:
                hint = "it is damaged: build the image again"
                raise UserError(f"{self._stream.name}: is cut short", hint=hint)
            done += count


class _Pipe:
    """An image that is unpacked as it is read: holes are passed over."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream, self._at, self._over = stream, 0, memoryview(bytearray(PIECE))
        with contextlib.suppress(OSError):
            fcntl.fcntl(stream.fileno(), fcntl.F_SETPIPE_SZ, _PIPE)

    def read(self, offset: int, view: memoryview) -> None:
        """Fill `view`; what lies before it is passed over."""
        while self._at < offset:
            self._fill(self._over[: min(PIECE, offset - self._at)])
        self._fill(view)

    def _fill(self, view: memoryview) -> None:
        done = 0
        while done < len(view):
            # readinto of a buffered stream returns less only at its end.
            count = self._stream.readinto(view[done:])  # type: ignore[attr-defined]
            if not count:
                raise EOFError
            done += count
        self._at += len(view)
