"""Eight machines become nodes at once and fetch from each other: each in a namespace of its own."""

from __future__ import annotations

from tests.provision.room import open_room

COUNT, MOST = 8, 2.5  # the most that the server may send, in images


def test_the_server_sends_little_more_than_two_images() -> None:
    with open_room(COUNT, share={}) as room:
        room.finish(room.start())
        ratio = room.server.sent / room.image
    print(f"the server sent {ratio:.2f} images to {COUNT} machines")
    assert 1 <= ratio <= MOST


def test_without_sharing_each_fetches_from_the_server() -> None:
    with open_room(COUNT) as room:
        room.finish(room.start())
        assert room.server.sent / room.image >= COUNT
