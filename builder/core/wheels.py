"""Where the cache keeps wheels."""

from __future__ import annotations

from pathlib import Path

from builder.core.errors import UserError
from builder.core.hashing import sha256_file
from builder.model.lock import LockedWheel


def wheel_path(cache: Path, wheel: LockedWheel) -> Path:
    """Return where the cache folder keeps a wheel."""
    return cache / "wheels" / wheel.sha256 / wheel.file_name


def checked_wheel(cache: Path, wheel: LockedWheel) -> Path:
    """Return where the cache, which must hold it, keeps a wheel.

    Raises UserError when the cached file no longer has its locked digest.
    """
    source = wheel_path(cache, wheel)
    actual = sha256_file(source)
    if actual != wheel.sha256:
        source.unlink()
        raise UserError(
            f"{wheel.file_name}: SHA-256 is {actual}, the lock says {wheel.sha256}",
            hint="the cached file was damaged and is removed: build again",
        )
    return source
