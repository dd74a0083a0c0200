"""A small network of namespaces: machines that reach each other, and nothing else."""

from __future__ import annotations

import os
import subprocess
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

CARD = "eth0"
_TIMEOUT_S = 60


@dataclass(frozen=True)
class Host:
    """One namespace with one card on the network."""

    space: str
    mac: str

    def argv(self, *words: str | Path) -> list[str]:
        """Return the command that runs `words` there."""
        return ["ip", "netns", "exec", self.space, *map(str, words)]

    def run(self, *words: str | Path, ok: bool = True) -> str:
        """Run a program there to its end and return what it printed; what it complains of, too."""
        done = subprocess.run(
            self.argv(*words), capture_output=True, text=True, timeout=_TIMEOUT_S, check=False
        )
        assert not ok or done.returncode == 0, f"{words}: {done.stdout}{done.stderr}"
        return done.stdout if ok else done.stdout + done.stderr


@contextmanager
def lan(**addresses: str | None) -> Iterator[dict[str, Host]]:
    """Give hosts by name; each has the address (with its prefix) that is named, or none."""
    stem = f"imgb-{uuid.uuid4().hex[:6]}"
    bridge = f"{stem}-lan"
    spaces = [bridge]
    try:
        _ip("netns", "add", bridge)
        _ip("-n", bridge, "link", "add", "br0", "type", "bridge", "forward_delay", "0")
        _ip("-n", bridge, "link", "set", "br0", "up")
        hosts = {}
        for number, (name, address) in enumerate(addresses.items(), 1):
            space, mac = f"{stem}-{name}", f"52:54:00:aa:00:{number:02x}"
            spaces.append(space)
            _ip("netns", "add", space)
            _plug(bridge, space, number, mac, address)
            hosts[name] = Host(space, mac)
        yield hosts
    finally:
        for space in spaces:
            subprocess.run(["ip", "netns", "del", space], capture_output=True, check=False)


def _plug(bridge: str, space: str, number: int, mac: str, address: str | None) -> None:
    port = f"port{number}"
    _ip("-n", bridge, "link", "add", port, "type", "veth", "peer", "name", CARD, "netns", space)
    _ip("-n", bridge, "link", "set", port, "master", "br0", "up")
    _ip("-n", space, "link", "set", "lo", "up")
    _ip("-n", space, "link", "set", CARD, "address", mac, "up")
    if address:
        _ip("-n", space, "address", "add", address, "brd", "+", "dev", CARD)


def _ip(*words: str) -> None:
    subprocess.run(
        ["ip", *words], check=True, timeout=_TIMEOUT_S, env={**os.environ, "LC_ALL": "C"}
    )
