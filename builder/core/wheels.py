"""Where the cache keeps wheels, and how one is installed into a tree."""

from __future__ import annotations

import os
from pathlib import Path
from typing import BinaryIO

from installer import install
from installer.destinations import SchemeDictionaryDestination
from installer.records import RecordEntry
from installer.sources import WheelFile
from installer.utils import Scheme

from builder.core.hashing import checked
from builder.model.lock import LockedWheel

_INTERPRETER = "/usr/bin/python3"


def wheel_path(cache: Path, wheel: LockedWheel) -> Path:
    """Return where the cache folder keeps a wheel."""
    return cache / "wheels" / wheel.sha256 / wheel.file_name


def checked_wheel(cache: Path, wheel: LockedWheel) -> Path:
    """Return where the cache, which must hold it, keeps a wheel.

    Raises UserError when the cached file no longer has its locked digest.
    """
    return checked(wheel_path(cache, wheel), wheel.sha256, wheel.file_name)


class _Destination(SchemeDictionaryDestination):
    """Takes a file that two wheels bring, as pip does: the later one wins."""

    def write_to_fs(
        self, scheme: Scheme, path: str, stream: BinaryIO, is_executable: bool
    ) -> RecordEntry:
        Path(self._path_with_destdir(scheme, path)).unlink(missing_ok=True)
        return super().write_to_fs(scheme, path, stream, is_executable)


def install_wheel(wheel: Path, tree: Path, prefix: str, packages: str) -> None:
    """Install a wheel below `tree`: what is imported into `packages`, all else below `prefix`.

    Both are paths from the tree's root, without a slash at their ends.
    """
    schemes = {
        "purelib": f"/{packages}",
        "platlib": f"/{packages}",
        "scripts": f"/{prefix}/bin",
        "headers": f"/{prefix}/include",
        "data": f"/{prefix}",
    }
    destination = _Destination(
        schemes, interpreter=_INTERPRETER, script_kind="posix", destdir=os.fspath(tree)
    )
    with WheelFile.open(wheel) as source:
        install(source, destination, additional_metadata={"INSTALLER": b"imgbuild\n"})
