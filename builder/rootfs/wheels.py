"""Wheels for the node's own Python, beside imgnode."""

from __future__ import annotations

from pathlib import Path

from builder.core.context import Context
from builder.core.wheels import checked_wheel, install_wheel
from builder.model.lock import Lock

PACKAGES = "usr/lib/python3/dist-packages"
_STRAY = ("example.py",)  # nvidia-ml-py puts it beside its module, for everybody to import


def lay_wheels(context: Context, lock: Lock, root: Path) -> list[str]:
    """Install the node's wheels of the lock; return their sources, as the node names them."""
    folder = root / PACKAGES
    before = set(folder.rglob("*.py"))
    for wheel in lock.wheels:
        install_wheel(checked_wheel(context.cache.root, wheel), root, "usr", PACKAGES)
    for name in _STRAY:
        if folder / name not in before:
            (folder / name).unlink(missing_ok=True)
    added = sorted(set(folder.rglob("*.py")) - before)
    return [f"/{path.relative_to(root)}" for path in added]
