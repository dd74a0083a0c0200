"""Joins standard input and output to a TCP port of this host: relay.py PORT.

QEMU starts one for each connection of the guest to a host service (guestfwd in qemu(1)); it
ends when either side does.
"""

from __future__ import annotations

import contextlib
import os
import socket
import sys
import threading

_CHUNK = 1 << 16
_CONNECT_S = 10.0


def relay(port: int) -> None:
    """Carry bytes both ways until the server has said all. Raises OSError."""
    with socket.create_connection(("127.0.0.1", port), _CONNECT_S) as line:
        line.settimeout(None)
        threading.Thread(target=_ask, args=(line,), daemon=True).start()
        while data := line.recv(_CHUNK):
            while data:
                data = data[os.write(sys.stdout.fileno(), data) :]


def _ask(line: socket.socket) -> None:
    """Carry what the guest says; when it has gone, the server is told."""
    with contextlib.suppress(OSError):
        while data := os.read(sys.stdin.fileno(), _CHUNK):
            line.sendall(data)
    with contextlib.suppress(OSError):
        line.shutdown(socket.SHUT_RDWR)


if __name__ == "__main__":
    try:
        relay(int(sys.argv[1]))
    except OSError:  # no server, or the guest has gone: the other side sees the end
        sys.exit(1)
