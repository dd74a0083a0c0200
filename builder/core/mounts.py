"""Mounts that cannot outlive the command, whatever ends it.

The command moves into a mount namespace of its own (unshare(2), CLONE_NEWNS); when its
last process is gone, even by SIGKILL, the kernel drops every mount made in it.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
from collections.abc import Iterator
from pathlib import Path

from builder.core.errors import UserError
from builder.core.process import Runner

_CLONE_NEWNS = 0x00020000
_MNT_DETACH = 2


def enter_private_mounts(runner: Runner) -> None:
    """Give this process its own mounts; call it before any thread starts.

    Raises UserError when the process may not (it needs root).
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_CLONE_NEWNS) != 0:
        reason = os.strerror(ctypes.get_errno())
        raise UserError(f"cannot make a private mount namespace: {reason}", hint="run as root")
    runner.run(["mount", "--make-rprivate", "/"])


@contextlib.contextmanager
def overlay(runner: Runner, lower: Path, work: Path) -> Iterator[Path]:
    """Give a folder that shows `lower` and takes changes into `work`; unmounted afterwards."""
    for name in ("upper", "work", "merged"):
        (work / name).mkdir()
    merged = work / "merged"
    options = f"lowerdir={lower},upperdir={work / 'upper'},workdir={work / 'work'}"
    runner.run(["mount", "-t", "overlay", "-o", options, "imgbuild", merged])
    try:
        yield merged
    finally:
        # Not by umount(8): a runner that is being closed starts nothing any more.
        ctypes.CDLL(None).umount2(os.fsencode(merged), _MNT_DETACH)
