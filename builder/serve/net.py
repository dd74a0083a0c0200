"""Asks the kernel about interfaces and neighbours."""

from __future__ import annotations

import ipaddress
import json
from pathlib import Path

from builder.core.errors import UserError
from builder.core.process import CommandError, Runner
from builder.serve.identity import Identity, make_identity

_TIMEOUT_S = 10.0
_ARP = Path("/proc/net/arp")
_NONE = "00:00:00:00:00:00"


def addresses(runner: Runner, interface: str) -> list[ipaddress.IPv4Interface]:
    """Return the IPv4 addresses of an interface, with their networks.

    Raises UserError where there is no such interface, or it has none.
    """
    try:
        done = runner.run(
            ["ip", "-json", "address", "show", "dev", interface], timeout_s=_TIMEOUT_S
        )
    except CommandError:
        hint = "`ip link` lists them"
        raise UserError(f"{interface}: there is no such interface", hint=hint) from None
    found = [
        ipaddress.IPv4Interface(f"{one['local']}/{one['prefixlen']}")
        for link in json.loads(done.stdout)
        for one in link.get("addr_info", ())
        if one.get("family") == "inet"
    ]
    if not found:
        hint = f"ip address add 10.9.0.1/24 dev {interface}, for example"
        raise UserError(f"{interface}: has no IPv4 address", hint=hint)
    return found


def neighbour(address: str, table: Path = _ARP) -> Identity:
    """Return what the network card says of a machine with this address on our own network.

    Empty for a machine behind a router.
    """
    try:
        lines = table.read_text().splitlines()[1:]
    except OSError:
        return Identity()
    for line in lines:
        words = line.split()
        if len(words) > 3 and words[0] == address and words[3] != _NONE:  # noqa: PLR2004 - the MAC
            return make_identity("", "", [words[3]])
    return Identity()
