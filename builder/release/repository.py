"""Where things lie in a release repository: a folder that any web server can hand out.

channels/IMAGE_ID/CHANNEL.json.asc
IMAGE_ID/VERSION/…
layers/ROOTHASH.erofs
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from builder.core.errors import UserError
from builder.core.files import remove_tree
from builder.model.artifacts import Manifest
from builder.model.release import Channel, Release
from imgnode.release.signature import BadSignature, split_signed
from imgnode.release.versions import newest_first

MANIFEST, RELEASE = "manifest.json", "release.json"
SUMS, SIGNATURE = "SHA256SUMS", "SHA256SUMS.gpg"
CHANNELS, LAYERS = "channels", "layers"
CHANNEL_END = ".json.asc"
PART = ".part"  # behind a dot and the name: what is being made, or what a killed run left


@dataclass(frozen=True)
class Repository:
    """A release repository below the folder `root`."""

    root: Path

    @property
    def layers(self) -> Path:
        """The layer files of all versions of all images."""
        return self.root / LAYERS

    def image(self, image_id: str) -> Path:
        """Return the folder of all versions of one image."""
        return self.root / image_id

    def version(self, image_id: str, version: str) -> Path:
        """Return the folder of one version."""
        return self.root / image_id / version

    def channel(self, image_id: str, channel: str) -> Path:
        """Return the file of a channel."""
        return self.root / CHANNELS / image_id / f"{channel}{CHANNEL_END}"

    def images(self) -> list[str]:
        """Return the ids of all images, sorted."""
        if not self.root.is_dir():
            return []
        found = (path for path in self.root.iterdir() if path.is_dir())
        return sorted(p.name for p in found if p.name[0] != "." and p.name not in _OWN)

    def versions(self, image_id: str) -> list[str]:
        """Return all versions of an image, the newest first."""
        folder = self.image(image_id)
        if not folder.is_dir():
            return []
        return newest_first(p.name for p in folder.iterdir() if p.is_dir() and p.name[0] != ".")


_OWN = {CHANNELS, LAYERS}


@contextmanager
def locked(repository: Repository) -> Iterator[None]:
    """Keep other runs away from the repository, which is made where it is not there yet.

    Then removes what killed runs left: nothing of it has a name that a node asks for.
    """
    root = repository.root
    if root.exists() and not root.is_dir():
        raise UserError(f"{root}: is not a folder", hint="name the folder of the releases")
    root.mkdir(parents=True, exist_ok=True)
    handle = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        _sweep(root)
        yield
    finally:
        os.close(handle)


def _sweep(root: Path) -> None:
    for pattern in (f"*/.*{PART}", f"{CHANNELS}/*/.*{CHANNEL_END}.*"):
        for path in root.glob(pattern):
            if path.is_dir():
                remove_tree(path)
            else:
                path.unlink()


def read_release(folder: Path) -> Release:
    """Return the release.json of a version's folder; raises UserError when it is damaged."""
    path = folder / RELEASE
    try:
        return Release.model_validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        raise damaged(path, error) from None


def read_manifest(folder: Path) -> Manifest:
    """Return the manifest.json of a version's folder; raises UserError when it is damaged."""
    path = folder / MANIFEST
    try:
        return Manifest.model_validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        raise damaged(path, error) from None


def read_channel(path: Path) -> Channel | None:
    """Return what a channel file says, its signature unchecked; None where there is none.

    Raises UserError when it is damaged.
    """
    try:
        text, _ = split_signed(path.read_text())
        return Channel.model_validate_json(text)
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError, BadSignature, ValidationError) as error:
        raise damaged(path, error) from None


def reason(error: Exception) -> str:
    """Return in one line why a file cannot be read, or is not what it should be."""
    if isinstance(error, ValidationError):
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        return f"{where}: {first['msg']}" if where else str(first["msg"])
    if isinstance(error, OSError):
        return f"cannot be read: {error.strerror}"
    return str(error).splitlines()[0]


def damaged(path: Path, error: Exception) -> UserError:
    """Return the error for a file of the repository that is not what it should be."""
    return UserError(
        f"{path}: {reason(error)}",
        hint="imgbuild verify says all that is wrong with a repository",
    )
