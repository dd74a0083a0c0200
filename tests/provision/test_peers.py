"""Eight machines become nodes at once and fetch from each other: each in a namespace of its own."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
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

COUNT, MOST = 8, 2.5  # the most that the server may send, in images
LAYER = hashlib.sha256(b"layer").hexdigest()
SERVER = "10.9.0.1"
_END_S = 240.0


@dataclass(frozen=True)
class Room:
    folder: Path
    key: Path
    machines: dict[str, Host]
    server: Server

    @property
    def image(self) -> int:
        """The bytes of one version: its parts, its layer."""
        places = (self.folder / f"releases/{IMAGE}/{NEW}", self.folder / "releases/layers")
        files = [one for place in places for one in place.iterdir()]
        return sum(one.stat().st_size for one in files if one.suffix in (".zst", ".erofs"))

    @property
    def sent(self) -> int:
        """The bytes of releases that nginx has sent, by its own log."""
        lines = (self.server.state / "run/access.log").read_text().splitlines()
        rows = [line.split() for line in lines]
        return sum(int(row[5]) for row in rows if row[3].startswith("/releases/"))

    def states(self) -> dict[str, str]:
        told = json.loads(curl(self.server.host, f"{self.server.base}/api/nodes")[1])
        return {row["name"]: row["state"] for row in told["nodes"]}


@pytest.fixture
def room(request: pytest.FixtureRequest) -> Iterator[Room]:
    addresses = {f"m{n}": f"10.9.0.{10 + n}/24" for n in range(COUNT)}
    with ExitStack() as stack:
        folder = stack.enter_context(open_folder())
        key = Key.make(folder / "key")
        stack.callback(key.forget)
        releases = Releases(folder, sign=key.sign, layers={LAYER: blocks("layer", 200)})
        releases.put(NEW, with_disk)
        for name, data in releases.files.items():
            path = folder / "releases" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        (folder / "public").write_bytes(key.public)
        hosts = stack.enter_context(lan(server=f"{SERVER}/24", **addresses))
        profile = IMAGE.removeprefix("imgbuild-")
        nodes = {f"gpu-{n}": {"serial": f"S{n}", "profile": profile} for n in range(COUNT)}
        where = {"address": SERVER, "dhcp": "off", **request.param}
        write(folder, where, nodes)
        server = stack.enter_context(running(hosts.pop("server"), folder, SERVER))
        yield Room(folder, folder / "public", hosts, server)


def install_all(room: Room) -> None:
    """Start all machines at once and wait until each has left its installer."""
    running = []
    for number, host in enumerate(room.machines.values()):
        folder = room.folder / f"machine-{number}"
        folder.mkdir()
        argv = [sys.executable, "-m", "tests.provision.node", folder, SERVER, number, room.key]
        log = (folder / "log").open("w")
        running.append(
            subprocess.Popen(host.argv(*map(str, argv)), cwd=ROOT, stdout=log, stderr=log)
        )
    until = time.monotonic() + _END_S
    try:
        for number, one in enumerate(running):
            said = room.folder / f"machine-{number}/log"
            try:
                assert one.wait(max(until - time.monotonic(), 1)) == 0, said.read_text()
            except subprocess.TimeoutExpired:
                pytest.fail(f"{room.states()}\n{said.read_text()}")
    finally:
        for one in running:
            one.kill()
            one.wait()


def whole(room: Room) -> None:
    for number in range(COUNT):
        with (room.folder / f"machine-{number}/disk").open("rb") as stream:
            assert NEW_ROOT in stream.read()
    assert set(room.states().values()) == {"done"}


@pytest.mark.parametrize("room", [{"share": {}}], indirect=True)
def test_the_server_sends_little_more_than_two_images(room: Room) -> None:
    install_all(room)
    whole(room)
    ratio = room.sent / room.image
    print(f"the server sent {ratio:.2f} images to {COUNT} machines")
    assert 1 <= ratio <= MOST


@pytest.mark.parametrize("room", [{}], indirect=True)
def test_without_sharing_each_fetches_from_the_server(room: Room) -> None:
    install_all(room)
    whole(room)
    assert room.sent / room.image >= COUNT
