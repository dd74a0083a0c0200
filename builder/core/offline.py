"""Takes the network from this process and from all that it starts, for good (unshare(2))."""

from __future__ import annotations

import ctypes
import os

from builder.core.errors import UserError

_CLONE_NEWNET = 0x40000000


def leave_network() -> None:
    """Go where there is no network; call it before any thread starts.

    Raises UserError when the process may not (it needs root).
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_CLONE_NEWNET) != 0:
        reason = os.strerror(ctypes.get_errno())
        raise UserError(f"cannot leave the network: {reason}", hint="run as root")
