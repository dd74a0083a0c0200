"""A DHCP client as firmware is one; run inside a namespace, it prints the answers as JSON.

Scapy makes and reads the packets: nothing of the tested code.
"""

from __future__ import annotations

import argparse
import json
import socket
import sys
import time
import uuid
from typing import Any

from scapy.layers.dhcp import BOOTP, DHCP
from scapy.packet import Packet

from tests.provision.lan import CARD

_FIRST_S, _MORE_S = 5.0, 1.0  # dnsmasq asks for 3 s whether an address is taken
_XID = 0x1B2C3D4E


def main() -> int:
    """Ask once; listen until a second has passed since an answer."""
    parser = argparse.ArgumentParser()
    parser.add_argument("mac")
    parser.add_argument("--arch", type=int)
    parser.add_argument("--vendor", default="")
    parser.add_argument("--user", default="")
    parser.add_argument("--boot-server", help="ask this proxy on port 4011, as PXE does next")
    parser.add_argument(
        "--own",
        default="0.0.0.0",  # noqa: S104 - an address that it does not have
        help="the address that it has by then",
    )
    words = parser.parse_args()
    link = _open()
    if words.boot_server:
        link.sendto(bytes(_packet(words, "request")), (words.boot_server, 4011))
    else:
        link.sendto(bytes(_packet(words, "discover")), ("255.255.255.255", 67))
    print(json.dumps(_heard(link)))
    return 0


def _open() -> socket.socket:
    link = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    link.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    link.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
    link.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, CARD.encode())
    link.bind(("", 68))
    return link


def _packet(words: argparse.Namespace, kind: str) -> Packet:
    options: list[Any] = [("message-type", kind)]
    if words.vendor:
        options.append(("vendor_class_id", words.vendor.encode()))
    if words.user:
        options.append((77, words.user.encode()))
    if words.arch is not None:
        options.append((93, words.arch.to_bytes(2, "big")))
        options.append((94, b"\x01\x03\x10"))
        options.append((97, b"\x00" + uuid.UUID(int=7).bytes))
    options.append(("param_req_list", [1, 3, 6, 43, 54, 60, 66, 67, 97]))
    mac = bytes.fromhex(words.mac.replace(":", ""))
    return BOOTP(chaddr=mac, xid=_XID, flags=0x8000, ciaddr=words.own) / DHCP(
        options=[*options, "end"]
    )


def _heard(link: socket.socket) -> list[dict[str, Any]]:
    found, ends = [], time.monotonic() + _FIRST_S
    while (left := ends - time.monotonic()) > 0:
        link.settimeout(left)
        try:
            data, sender = link.recvfrom(4096)
        except TimeoutError:
            break
        packet = BOOTP(data)
        if packet.xid == _XID and packet.op == 2:
            found.append(_told(packet, sender[0]))
            ends = time.monotonic() + _MORE_S
    return found


def _told(packet: Packet, sender: str) -> dict[str, Any]:
    options = {str(one[0]): one[1] for one in packet[DHCP].options if isinstance(one, tuple)}
    file = _text(options.get("boot-file-name", b"")) or _text(packet.file)
    return {
        "from": sender,
        "type": options.get("message-type"),
        "yiaddr": packet.yiaddr,
        "siaddr": packet.siaddr,
        "file": file,
        "class": _text(options.get("vendor_class_id", b"")),
        "router": options.get("router"),
        "menu": _text(options.get("vendor_specific", b"")),
    }


def _text(data: bytes) -> str:
    return data.decode("latin-1").rstrip("\0")


if __name__ == "__main__":
    sys.exit(main())
