"""Machines with empty disks, each in a namespace of its own, and the server that they ask."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.provision.conftest import open_folder
from tests.provision.lan import Host, lan
from tests.provision.server import ROOT, Server, curl, running, write
from tests.unit.hostile import Key
from tests.unit.install_room import with_disk
from tests.unit.update_node import IMAGE, NEW, NEW_ROOT, blocks
from tests.unit.update_node import Server as Releases

LAYER = hashlib.sha256(b"layer").hexdigest()
SERVER = "10.9.0.1"
_END_S = 240.0


@dataclass(frozen=True)
class Room:
    """`folder` holds what server and machines have; `key` is whose releases they believe."""

    folder: Path
    key: Path
    machines: tuple[Host, ...]
    server: Server

    @property
    def image(self) -> int:
        """The bytes of one version: its parts, its layer."""
        places = (self.folder / f"releases/{IMAGE}/{NEW}", self.folder / "releases/layers")
        files = [one for place in places for one in place.iterdir()]
        return sum(one.stat().st_size for one in files if one.suffix in (".zst", ".erofs"))

    def states(self) -> dict[str, str]:
        """Return the state of each node, as the server tells it."""
        told = json.loads(curl(self.server.host, f"{self.server.base}/api/nodes")[1])
        return {row["name"]: row["state"] for row in told["nodes"]}

    def said(self, number: int) -> str:
        """Return what the console of a machine shows."""
        return (self.folder / f"machine-{number}/log").read_text()

    def start(self) -> list[subprocess.Popen[bytes]]:
        """Start all machines at once."""
        running = []
        for number, host in enumerate(self.machines):
            folder = self.folder / f"machine-{number}"
            folder.mkdir()
            module = [sys.executable, "-m", "tests.provision.node"]
            argv = host.argv(*module, folder, SERVER, str(number), self.key)
            with (folder / "log").open("w") as log:
                running.append(subprocess.Popen(argv, cwd=ROOT, stdout=log, stderr=log))
        return running

    def finish(self, running: list[subprocess.Popen[bytes]]) -> None:
        """Wait until each has left its installer, its disk whole."""
        until = time.monotonic() + _END_S
        try:
            for number, one in enumerate(running):
                try:
                    assert one.wait(max(until - time.monotonic(), 1)) == 0, self.said(number)
                except subprocess.TimeoutExpired:
                    pytest.fail(f"{self.states()}\n{self.said(number)}")
        finally:
            for one in running:
                one.kill()
                one.wait()
        for number in range(len(self.machines)):
            assert NEW_ROOT in (self.folder / f"machine-{number}/disk").read_bytes()
        told = [self.said(number) for number in range(len(self.machines))]
        assert set(self.states().values()) == {"done"}, "\n".join(told)


@contextmanager
def open_room(count: int, layer: int = 200, **server: object) -> Iterator[Room]:
    """Give a room of `count` machines; the version has a layer of so many blocks of 4 KiB."""
    addresses = {f"m{n}": f"10.9.0.{10 + n}/24" for n in range(count)}
    with ExitStack() as stack:
        folder = stack.enter_context(open_folder())
        key = Key.make(folder / "key")
        stack.callback(key.forget)
        releases = Releases(folder, sign=key.sign, layers={LAYER: blocks("layer", layer)})
        releases.put(NEW, with_disk)
        for name, data in releases.files.items():
            path = folder / "releases" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        (folder / "public").write_bytes(key.public)
        hosts = stack.enter_context(lan(server=f"{SERVER}/24", **addresses))
        profile = IMAGE.removeprefix("imgbuild-")
        nodes = {f"gpu-{n}": {"serial": f"S{n}", "profile": profile} for n in range(count)}
        write(folder, {"address": SERVER, "dhcp": "off", **server}, nodes)
        made = stack.enter_context(running(hosts.pop("server"), folder, SERVER))
        yield Room(folder, folder / "public", tuple(hosts.values()), made)
