"""Checks everything in a repository: each channel, each version, and that nothing else is there."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from builder.release.repository import CHANNEL_END, CHANNELS, LAYERS
from builder.release.verify import Check, check_channel, check_version

_STRANGE = "does not belong to a repository"


def check_channels(check: Check, channels: Sequence[tuple[str, str]]) -> None:
    """Check channels, each by image id and name, and the versions that they lead to."""
    for image_id, channel in channels:
        said = check_channel(check, check.repository.channel(image_id, channel))
        if said:
            check_version(check, said.image_id, said.version)


def check_repository(check: Check) -> None:
    """Check all that is in the repository."""
    place = check.repository
    for folder in _folders(check, place.root / CHANNELS):
        for file in _files(check, folder, CHANNEL_END):
            check_channel(check, file)
    needed: set[str] = set()
    images = place.images()
    for image_id in images:
        for folder in _folders(check, place.image(image_id)):
            needed |= check_version(check, image_id, folder.name)
    for file in _files(check, place.layers, ".erofs"):
        if file.name not in needed:
            check.tell(file, "no good version needs it")
    for path in sorted(place.root.iterdir()):
        if path.name not in {CHANNELS, LAYERS, *images} or path.is_symlink():
            check.tell(path, _STRANGE)
    if not images:
        check.tell(place.root, "holds no version")


def _folders(check: Check, parent: Path) -> Iterator[Path]:
    """Yield the folders in a folder, which holds nothing else."""
    for path in sorted(parent.iterdir()) if parent.is_dir() else ():
        if path.is_dir() and not path.is_symlink() and not path.name.startswith("."):
            yield path
        else:
            check.tell(path, _STRANGE)


def _files(check: Check, parent: Path, end: str) -> Iterator[Path]:
    """Yield the files in a folder whose name ends with `end`; it holds nothing else."""
    for path in sorted(parent.iterdir()) if parent.is_dir() else ():
        plain = path.is_file() and not path.is_symlink() and not path.name.startswith(".")
        if plain and path.name.endswith(end):
            yield path
        else:
            check.tell(path, _STRANGE)
