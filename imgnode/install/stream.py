"""Streams a part of a version from the server onto the disk, hashing it on both sides.

The compressed bytes are counted and hashed as they come, zstd unpacks them, a thread writes and
hashes what comes out. A connection that breaks is taken up where it was. Nothing is kept on the
way.
"""

from __future__ import annotations

import hashlib
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from imgnode import process
from imgnode.download import Patience, stream_argv
from imgnode.update.recipe import File, Part
from imgnode.update.refused import DAMAGED, FETCH, TOO_LARGE, WRITE, Refused

_CHUNK = 1 << 20
_PAUSE_S = 2.0
_END_S = 60
_PEER_S = 10.0  # how long a neighbour is waited for: there are others
Tell = Callable[[int], None]  # so many bytes of the download more
Feed = Callable[[bytes], None]


@dataclass(frozen=True)
class Place:
    """Where a part goes: `room` bytes at `offset` of a disk, or of a file that stands for one."""

    disk: Path
    offset: int
    room: int


@dataclass(frozen=True)
class Origin:
    """Where parts come from: `peers` first (imgnode.install.share), then the release's `address`.

    `note` takes why a neighbour was no use.
    """

    address: str
    peers: tuple[str, ...] = ()
    note: Callable[[str], None] = print


def stream(part: Part, origin: Origin, place: Place, patience: Patience, tell: Tell) -> None:
    """Write a part to its place and prove that it is there. Raises Refused or OSError.

    What is there already, from a run that was cut off, is not fetched again.
    """
    if part.bytes > place.room:
        fact = f"{part.name} has {part.bytes} bytes, its partition {place.room}"
        raise Refused(TOO_LARGE, fact, "order it with wipe: the partitions are made anew then")
    if holds(part, place):
        tell(part.full.bytes)
        return
    if any(_from_peer(part, peer, origin.note, place, tell) for peer in origin.peers):
        return
    _write(part, part.full, f"{origin.address}/{part.full.name}", place, patience, tell)


def _from_peer(
    part: Part, peer: str, note: Callable[[str], None], place: Place, tell: Tell
) -> bool:
    """Write a part as a neighbour's slot holds it; False when that was not to be had."""
    raw, told = File(part.name, part.bytes, part.sha256), 0

    def scaled(count: int) -> None:
        nonlocal told
        count = count * part.full.bytes // max(part.bytes, 1)
        told += count
        tell(count)

    try:
        _write(part, raw, f"{peer}/parts/{part.sha256}", place, Patience(_PEER_S), scaled)
    except Refused as error:
        if error.kind == WRITE:
            raise
        tell(-told)
        note(f"not from a neighbour: {error}")
        return False
    return True


def _write(part: Part, file: File, url: str, place: Place, patience: Patience, tell: Tell) -> None:
    with place.disk.open("r+b", buffering=0) as out:
        writer = _Writer(out.fileno(), place.offset, part.bytes)
        with _unpacked(file, writer) as feed:
            _fetch(url, file, feed, patience, tell)
        os.fsync(out.fileno())
    if writer.wrong or writer.done != part.bytes or writer.digest.hexdigest() != part.sha256:
        raise Refused(DAMAGED, f"{url}: does not hold {part.name}: {writer.wrong or 'other bytes'}")
    if not holds(part, place):
        fact = f"{place.disk}: does not hold what was written to it ({part.name})"
        raise Refused(WRITE, fact, "the disk is failing: dmesg; smartctl")


def holds(part: Part, place: Place) -> bool:
    """Tell whether a part lies in its place, by the disk itself."""
    digest, at, end = hashlib.sha256(), place.offset, place.offset + part.bytes
    with place.disk.open("rb", buffering=0) as stream:
        os.posix_fadvise(stream.fileno(), at, part.bytes, os.POSIX_FADV_DONTNEED)
        while at < end and (data := os.pread(stream.fileno(), min(_CHUNK, end - at), at)):
            digest.update(data)
            at += len(data)
    return at == end and digest.hexdigest() == part.sha256


@dataclass
class _Writer:
    """Writes what comes, never more than `most` bytes; `wrong` says what was not right."""

    handle: int
    offset: int
    most: int
    done: int = 0
    wrong: str = ""
    digest: hashlib._Hash = field(default_factory=hashlib.sha256)

    def take(self, data: bytes) -> None:
        """Write the next bytes. Raises ValueError when they are too many, or OSError."""
        if self.done + len(data) > self.most:
            raise ValueError("it is larger than it was signed")
        view = memoryview(data)
        while view:
            count = os.pwrite(self.handle, view, self.offset + self.done)
            self.digest.update(view[:count])
            self.done += count
            view = view[count:]


@contextmanager
def _unpacked(file: File, writer: _Writer) -> Iterator[Feed]:
    """Give what takes the bytes of a file; they reach the writer unpacked, if it is compressed."""
    if not file.name.endswith(".zst"):
        try:
            yield writer.take
        except ValueError as error:
            writer.wrong = str(error)
        return
    packed_out, packed_in = os.pipe()
    plain_out, plain_in = os.pipe()
    argv = ["zstd", "--decompress", "--stdout", "--quiet", "-"]
    child = process.start(argv, env={}, output=plain_in, source=packed_out)
    os.close(packed_out)
    os.close(plain_in)
    thread = threading.Thread(target=_drain, args=(plain_out, writer), name="unpacked")
    thread.start()

    def feed(data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[os.write(packed_in, view) :]

    try:
        yield feed
    except BrokenPipeError:  # zstd has ended: `wrong`, or the digest, says why
        writer.wrong = writer.wrong or "it cannot be unpacked"
    finally:
        os.close(packed_in)
        thread.join()
        if child.wait(timeout_s=_END_S) != 0:
            writer.wrong = writer.wrong or "it cannot be unpacked"
            child.kill()


def _drain(source: int, writer: _Writer) -> None:
    """Hand on what zstd writes; when it cannot be written, zstd ends by SIGPIPE."""
    try:
        while data := os.read(source, _CHUNK):
            writer.take(data)
    except (ValueError, OSError) as error:
        writer.wrong = str(error)
    finally:
        os.close(source)


def _fetch(url: str, file: File, feed: Feed, patience: Patience, tell: Tell) -> None:
    """Feed exactly the bytes of a file, try after try. Raises Refused."""
    digest, at = hashlib.sha256(), 0
    while True:
        before = at
        for data in _one_try(url, at):
            at += len(data)
            if at > file.bytes:
                raise Refused(DAMAGED, f"{url}: the server sends more than this file may have")
            digest.update(data)
            feed(data)
            tell(len(data))
        if at == file.bytes:
            break
        if at > before:
            patience.renew()
        if patience.gone:
            raise Refused(FETCH, f"{url}: ends after {at} of {file.bytes} bytes", "is it up?")
        time.sleep(_PAUSE_S)
    if digest.hexdigest() != file.sha256:
        raise Refused(DAMAGED, f"{url}: is not the file that was signed")


def _one_try(url: str, at: int) -> Iterator[bytes]:
    """Yield what one curl brings, from byte `at` on."""
    source, output = os.pipe()
    try:
        child = process.start(stream_argv(url, at), env={}, output=output)
    finally:
        os.close(output)
    try:
        while data := os.read(source, _CHUNK):
            yield data
    finally:
        os.close(source)
        with suppress(ProcessLookupError):
            child.kill()
        child.wait(timeout_s=_END_S)
