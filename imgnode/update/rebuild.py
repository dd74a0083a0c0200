"""Brings a part into the staging folder: from what runs and a patch, or whole."""

from __future__ import annotations

import hashlib
import shutil
from dataclasses import dataclass, field
from pathlib import Path

from imgnode import process
from imgnode.download import Patience, download
from imgnode.update.recipe import File, Part, Patch
from imgnode.update.refused import DAMAGED, FETCH, Refused

_CHUNK = 1 << 20
_ZSTD_S = 3600
_LONG = "--long=31"


@dataclass
class Fetcher:
    """Fetches files of one version into one folder, counting bytes."""

    address: str
    folder: Path
    patience: Patience = field(default_factory=Patience)
    fetched: int = 0

    def get(self, file: File) -> Path:
        """Return a file of the server, whole and as it was signed. Raises Refused or OSError.

        A part of it that is there is continued; one that is wrong is fetched once more.
        """
        target = self.folder / file.name
        for _ in range(2):
            had = target.stat().st_size if target.exists() else 0
            said = download(f"{self.address}/{file.name}", target, file.bytes, self.patience)
            now = target.stat().st_size if target.exists() else 0
            self.fetched += now - had if now >= had else now
            if said:
                raise Refused(FETCH, f"{self.address}/{file.name}: {said}", _LATER)
            if now == file.bytes and sha256(target) == file.sha256:
                return target
            target.unlink(missing_ok=True)
        raise Refused(DAMAGED, f"{self.address}/{file.name}: is not the file that was signed")


_LATER = "is the release server reachable? what was fetched is kept, and the next run goes on"


def bring(part: Part, old: Path | None, version: str, fetcher: Fetcher, target: Path) -> bool:
    """Write a part as it is installed; tell whether a patch did it.

    `old` is the same part of the running `version`, None where it cannot be read. Raises
    Refused when neither way gives the bytes that were signed, or OSError.
    """
    if target.exists() and sha256(target) == part.sha256:
        return True
    patch = part.patch_from(version)
    if patch and old and sha256(old) == patch.from_sha256:
        file = fetcher.get(patch.file)
        try:
            _apply(old, file, patch, target)
        finally:
            file.unlink(missing_ok=True)
        if sha256(target) == part.sha256:
            return True
        target.unlink()
    _whole(part, fetcher, target)
    return False


def sha256(path: Path) -> str:
    """Return the digest of a file. Raises OSError."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _whole(part: Part, fetcher: Fetcher, target: Path) -> None:
    file = fetcher.get(part.full)
    if file.suffix == ".zst":
        _zstd(file, target)
        file.unlink()
    elif file != target:
        shutil.move(file, target)
    if sha256(target) != part.sha256:
        target.unlink()
        raise Refused(DAMAGED, f"{fetcher.address}/{part.full.name}: does not hold {part.name}")


def _apply(old: Path, file: Path, patch: Patch, target: Path) -> None:
    """Write what a patch makes of the old part, a file or a device.

    zstd holds a slice twice, so a piece takes as much memory as the old part has bytes.
    """
    frame, before, piece = (target.with_suffix(f".{name}") for name in ("frame", "old", "new"))
    at = 0
    try:
        with target.open("wb") as out:
            for one in patch.pieces:
                _copy_range(file, at, one.bytes, frame)
                _copy_range(old, one.old_start, one.old_bytes, before)
                _zstd(frame, piece, _LONG, f"--patch-from={before}")
                with piece.open("rb") as stream:
                    shutil.copyfileobj(stream, out, _CHUNK)
                at += one.bytes
    finally:
        for path in (frame, before, piece):
            path.unlink(missing_ok=True)


def _copy_range(source: Path, start: int, count: int, target: Path) -> None:
    with source.open("rb") as stream, target.open("wb") as out:
        stream.seek(start)
        while count and (chunk := stream.read(min(count, _CHUNK))):
            out.write(chunk)
            count -= len(chunk)


def _zstd(source: Path, target: Path, *words: str) -> None:
    argv = ["zstd", "--quiet", "--force", "--decompress", *words, str(source), "-o", str(target)]
    done = process.run(argv, timeout_s=_ZSTD_S)
    if done.rc:
        said = " ".join(done.stderr.split())[-200:]
        raise Refused(DAMAGED, f"{source.name}: zstd cannot unpack it: {said}", "df; free; dmesg")
