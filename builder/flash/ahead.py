"""Reads ahead: one thread fills buffers and hashes while the other writes what is ready."""

from __future__ import annotations

import mmap
import queue
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from builder.flash.target import PIECE

BUFFERS = 5  # they go round in one order


@dataclass(frozen=True)
class Chunk:
    """Bytes that lie at `offset`; `data` is good until the second next chunk is asked for."""

    offset: int
    data: memoryview


class _Stopped(Exception):
    """Nobody wants more."""


@dataclass
class _Lane:
    """Buffers go round: free ones to the reader, full ones to the taker; None: no more.

    They are pages by themselves, as O_DIRECT wants them.
    """

    free: queue.Queue[mmap.mmap | None] = field(default_factory=queue.Queue)
    full: queue.Queue[tuple[Chunk, mmap.mmap] | None] = field(default_factory=queue.Queue)


Take = Callable[[], memoryview]
Produce = Callable[[Take], Iterator[Chunk]]


def ahead(produce: Produce) -> Iterator[Chunk]:
    """Yield what `produce` yields, which runs in a thread of its own.

    It calls its argument for each buffer, of PIECE bytes, and yields it, filled, before it asks
    for the next one. What it raises is raised here, after what it had yielded.
    """
    lane = _Lane()
    for _ in range(BUFFERS):
        lane.free.put(mmap.mmap(-1, PIECE))
    with ThreadPoolExecutor(1) as pool:
        reader = pool.submit(_read, lane, produce)
        try:
            last: mmap.mmap | None = None
            while (item := lane.full.get()) is not None:
                chunk, buffer = item
                yield chunk
                if last is not None:
                    lane.free.put(last)
                last = buffer
            reader.result()
        finally:
            lane.free.put(None)


def _read(lane: _Lane, produce: Produce) -> None:
    held: list[mmap.mmap] = []

    def take() -> memoryview:
        buffer = lane.free.get()
        if buffer is None:
            raise _Stopped
        held.append(buffer)
        return memoryview(buffer)

    try:
        for chunk in produce(take):
            lane.full.put((chunk, held.pop()))
    finally:
        lane.full.put(None)
