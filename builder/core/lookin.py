"""Looks into an EROFS image: the kernel mounts it read-only, and nobody else sees the mount."""

from __future__ import annotations

import contextlib
import ctypes
import os
from collections.abc import Iterator
from pathlib import Path

from builder.core.errors import UserError
from builder.core.mounts import enter_private_mounts
from builder.core.process import Runner

_MNT_DETACH = 2
_ROOT = 0


def may_look_in() -> bool:
    """Tell whether this process may mount images: it needs root."""
    return os.geteuid() == _ROOT


@contextlib.contextmanager
def looked_in(runner: Runner, image: Path, point: Path) -> Iterator[Path]:
    """Give the tree of an EROFS image at the empty folder `point`; unmounted afterwards.

    The process must have called `enter_private_mounts`. Raises CommandError for a file that
    is no EROFS image.
    """
    runner.run(["mount", "-t", "erofs", "-o", "loop,ro,nodev,nosuid,noexec", image, point])
    try:
        yield point
    finally:
        # Not by umount(8): a runner that is being closed starts nothing any more.
        ctypes.CDLL(None).umount2(os.fsencode(point), _MNT_DETACH)


def prepare_to_look_in(runner: Runner) -> None:
    """Give this process private mounts; raises UserError, with a hint, when it is not root."""
    if not may_look_in():
        raise UserError(
            "looking into a root image needs a mount", hint="run as root, or diff with --quick"
        )
    enter_private_mounts(runner)
