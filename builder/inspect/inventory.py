"""The whole inventory of a root file system: files, units, ports, accounts."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from builder.inspect.files import read_files
from builder.inspect.units import read_units, socket_ports
from builder.model.inventory import Inventory, Port, User

_FIREWALL = "etc/nftables.conf"
# A rule of a chain that filters what comes in (nft(8)), as overlays/ writes them.
_OPEN = re.compile(
    r"^\s*(?:ip6? saddr (?P<source>\{[^}]*\}|\S+) )?(?P<protocol>tcp|udp) (?:sport \S+ )?"
    r"(?:(?:tcp|udp) )?dport (?P<port>\{[^}]*\}|\S+) accept$"
)
_CHAIN = re.compile(r"^\s*chain (\S+) \{")


def take_inventory(root: Path) -> Inventory:
    """Return what is inside the tree of an image."""
    units = read_units(root)
    ports = [*_firewall(root), *socket_ports(root, units)]
    return Inventory(
        files=read_files(root),
        units=units,
        ports=tuple(sorted(ports, key=lambda one: (one.by, one.protocol, one.port))),
        users=_users(root),
        groups={name: int(words[1]) for name, words in _table(root, "group")},
    )


def _firewall(root: Path) -> list[Port]:
    """Return the ports that the firewall's chain `input` opens."""
    path = root / _FIREWALL
    if not path.is_file():
        return []
    chain, sources = "", dict[tuple[str, str], list[str]]()
    for line in path.read_text().splitlines():
        if match := _CHAIN.match(line):
            chain = match[1]
        if chain == "input" and (rule := _OPEN.match(line)):
            where = sources.setdefault((rule["protocol"], rule["port"]), [])
            where.append(rule["source"] or "any")
    return [
        Port(protocol=protocol, port=port, by="firewall", sources=tuple(where))
        for (protocol, port), where in sources.items()
    ]


def _users(root: Path) -> dict[str, User]:
    members = {name: words[2].split(",") for name, words in _table(root, "group")}
    return {
        name: User(
            uid=int(words[1]),
            gid=int(words[2]),
            home=words[4],
            shell=words[5],
            groups=tuple(sorted(group for group, names in members.items() if name in names)),
        )
        for name, words in _table(root, "passwd")
    }


def _table(root: Path, name: str) -> Iterator[tuple[str, list[str]]]:
    """Yield first field and the others of each line of passwd(5) or group(5)."""
    path = root / "etc" / name
    for line in sorted(path.read_text().splitlines()) if path.is_file() else []:
        first, *rest = line.split(":")
        yield first, rest
