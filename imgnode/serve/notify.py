"""Tells systemd how far the service is (sd_notify(3)), without its library."""

from __future__ import annotations

import contextlib
import os
import socket

READY = "READY=1"


def notify(*lines: str) -> None:
    """Send assignments such as READY=1 or STATUS=…; nothing happens outside a service."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    if address.startswith("@"):  # an abstract socket
        address = f"\0{address[1:]}"
    # A status that gets lost must not stop the server.
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel, contextlib.suppress(OSError):
        channel.sendto("\n".join(lines).encode(), address)


def status(text: str) -> str:
    """Return the assignment of one status line."""
    return f"STATUS={' '.join(text.split())}"
