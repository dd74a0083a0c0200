"""Looks for another DHCP server before we become one: two that give addresses break a network."""

from __future__ import annotations

import contextlib
import secrets
import socket
import struct
import time
from collections.abc import Iterator

from builder.core.errors import UserError
from builder.serve.httpclient import COOKIE, FIXED, open_socket, options

_CLIENT_PORT, _SERVER_PORT = 68, 67
_ANSWER_S = 4.0  # a server may first ask for 3 seconds whether an address is taken
_TYPE, _SERVER_ID = 53, 54
_DISCOVER, _OFFER, _REPLY = 1, 2, 2
_LOCAL = 0x02  # of a MAC: nobody's own


def check_alone(interface: str) -> None:
    """Raise UserError where another server offers addresses on this interface.

    Where nothing can be asked (port 68 has an owner of its own), nothing is said.
    """
    with contextlib.suppress(OSError), open_socket(interface, _CLIENT_PORT) as link:
        xid = secrets.token_bytes(4)
        link.sendto(discover(xid), ("255.255.255.255", _SERVER_PORT))
        for data in _heard(link):
            if other := offering(data, xid):
                fact = f"{interface}: another DHCP server, {other}, gives addresses here"
                raise UserError(fact, hint="set dhcp: proxy to work beside it")


def discover(xid: bytes) -> bytes:
    """Return a DHCPDISCOVER of a card that does not exist; it is answered by broadcast."""
    mac = bytes([_LOCAL]) + secrets.token_bytes(5)
    head = struct.pack(">BBBB4sHH", 1, 1, 6, 0, xid, 0, 0x8000) + bytes(16)
    return head + mac + bytes(FIXED - 34) + COOKIE + bytes([_TYPE, 1, _DISCOVER, 255])


def offering(data: bytes, xid: bytes) -> str | None:
    """Return who offers an address in answer to `xid`; None for anything else."""
    if len(data) < FIXED + len(COOKIE) or data[0] != _REPLY or data[4:8] != xid:
        return None
    found = options(data[FIXED + len(COOKIE) :])
    server = found.get(_SERVER_ID, b"")
    if found.get(_TYPE) != bytes([_OFFER]) or not any(data[16:20]) or len(server) != 4:  # noqa: PLR2004 - IPv4
        return None
    return socket.inet_ntoa(server)


def _heard(link: socket.socket) -> Iterator[bytes]:
    """Yield what comes within a few seconds."""
    ends = time.monotonic() + _ANSWER_S
    while (left := ends - time.monotonic()) > 0:
        link.settimeout(left)
        try:
            yield link.recv(4096)
        except TimeoutError:
            return
