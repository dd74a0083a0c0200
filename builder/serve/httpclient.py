"""Answers UEFI HTTP Boot beside another DHCP server: dnsmasq's proxy mode knows PXE only.

The other server gives the address, this one the URL: an offer with no address in it (yiaddr 0).
Firmware takes both together (UEFI 2.10, 24.7.3).
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import struct
from dataclasses import dataclass
from typing import cast

_SERVER_PORT, _CLIENT_PORT = 67, 68
COOKIE = b"\x63\x82\x53\x63"
FIXED = 236  # bytes before cookie and options (RFC 2131)
_OPTIONS = FIXED + len(COOKIE)
_REQUEST, _REPLY = 1, 2
_DISCOVER, _OFFER = 1, 2
_PAD, _END = 0, 255
_TYPE, _SERVER_ID, _VENDOR, _BOOTFILE, _ARCH, _CLIENT_UUID = 53, 54, 60, 67, 93, 97
_HTTP_X64 = 16
_BROADCAST = 0x8000
_NAME = b"HTTPClient"


@dataclass(frozen=True)
class Discover:
    """What of a DHCP request is needed for its answer."""

    head: bytes
    client_uuid: bytes | None

    @property
    def mac(self) -> str:
        """The MAC of who asks."""
        return self.head[28:34].hex(":")


def parse(data: bytes) -> Discover | None:
    """Return a DHCPDISCOVER of an HTTP Boot client on x86-64; None for all else."""
    if len(data) < _OPTIONS or data[0] != _REQUEST or data[FIXED:_OPTIONS] != COOKIE:
        return None
    if data[1:3] != b"\x01\x06":  # Ethernet
        return None
    found = options(data[_OPTIONS:])
    if found.get(_TYPE) != bytes([_DISCOVER]) or not found.get(_VENDOR, b"").startswith(_NAME):
        return None
    if found.get(_ARCH, b"") != struct.pack(">H", _HTTP_X64):
        return None
    return Discover(data[:_OPTIONS], found.get(_CLIENT_UUID))


def offer(asked: Discover, address: str, url: str) -> bytes:
    """Return the DHCPOFFER: no address for the client, and the URL of what it shall boot."""
    own = ipaddress.IPv4Address(address).packed
    head = asked.head
    xid, chaddr, giaddr = head[4:8], head[28:44], head[24:28]
    flags = struct.pack(">H", _BROADCAST)
    fixed = bytes([_REPLY, 1, 6, 0]) + xid + bytes(2) + flags + bytes(8) + own + giaddr + chaddr
    fixed += bytes(192) + COOKIE
    told = _option(_TYPE, bytes([_OFFER])) + _option(_SERVER_ID, own) + _option(_VENDOR, _NAME)
    told += _option(_BOOTFILE, url.encode())
    if asked.client_uuid:
        told += _option(_CLIENT_UUID, asked.client_uuid)
    return fixed + told + bytes([_END])


def open_socket(interface: str, port: int = _SERVER_PORT) -> socket.socket:
    """Return a socket that hears what comes to a DHCP port of one interface, beside other ones.

    Requests are broadcasts, of which each socket gets a copy. Raises OSError.
    """
    made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, interface.encode())
        made.bind(("", port))
    except BaseException:
        made.close()
        raise
    made.setblocking(False)
    return made


class Responder(asyncio.DatagramProtocol):
    """Answers what `parse` takes; to the whole network, as the client has no address yet."""

    def __init__(self, address: str, url: str) -> None:
        self.address, self.url = address, url
        self._transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep what answers go through."""
        # Python 3.11 does not derive its own transports from this type.
        self._transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: tuple[str | object, int]) -> None:
        """Answer one request, if it is one of HTTP Boot; through a relay back to it."""
        asked = parse(data)
        if asked is None or self._transport is None:
            return
        relay = ipaddress.IPv4Address(asked.head[24:28])
        direct = not int(relay)
        target = ("255.255.255.255", _CLIENT_PORT) if direct else (str(relay), _SERVER_PORT)
        del addr
        self._transport.sendto(offer(asked, self.address, self.url), target)


def _option(code: int, value: bytes) -> bytes:
    return bytes([code, len(value)]) + value


def options(data: bytes) -> dict[int, bytes]:
    """Return DHCP options by number, as far as they can be read."""
    found: dict[int, bytes] = {}
    at = 0
    while at < len(data) and data[at] != _END:
        if data[at] == _PAD:
            at += 1
            continue
        if at + 1 >= len(data):
            break
        length = data[at + 1]
        found[data[at]] = data[at + 2 : at + 2 + length]
        at += 2 + length
    return found
