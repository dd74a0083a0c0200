"""What may happen to the way between a machine and the server while it installs."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator

import pytest

from tests.provision.lan import CARD
from tests.provision.room import SERVER, Room, open_room
from tests.provision.server import running

_SLOW = "tbf rate 4mbit burst 32k latency 400ms"
_LAYER = 1000  # blocks of 4 KiB: eight seconds
_LIMIT_S = 60.0
_GONE_S = 6.0


@pytest.fixture
def room() -> Iterator[Room]:
    """A machine, and a slow way to it."""
    with open_room(1, _LAYER) as made:
        host = made.server.host
        host.run("tc", "qdisc", "add", "dev", CARD, "root", *_SLOW.split())
        yield made


def in_the_middle(room: Room) -> None:
    """Wait until the machine has a part of its layer."""
    until = time.monotonic() + _LIMIT_S
    parts = room.folder / "machine-0/var/lib/imgnode/layers"
    while time.monotonic() < until:
        sizes = [one.stat().st_size for one in parts.rglob("*") if one.is_file()]
        if any(1 << 20 < size < _LAYER * 4096 for size in sizes):
            return
        time.sleep(0.1)
    pytest.fail(room.said(0))


def test_a_link_that_goes_down_and_up(room: Room) -> None:
    machines = room.start()
    in_the_middle(room)
    room.machines[0].run("ip", "link", "set", CARD, "down")
    time.sleep(_GONE_S)
    room.machines[0].run("ip", "link", "set", CARD, "up")
    room.finish(machines)
    assert "failed" not in room.said(0)


def test_a_server_that_is_killed_and_comes_back(room: Room) -> None:
    machines = room.start()
    in_the_middle(room)
    room.server.kill()
    os.kill(int((room.server.state / "run/nginx.pid").read_text()), signal.SIGTERM)
    time.sleep(_GONE_S)
    with running(room.server.host, room.folder, SERVER):
        room.finish(machines)
    assert room.server.sent < 2 * room.image, "what had come was fetched again"
