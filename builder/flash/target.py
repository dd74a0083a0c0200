"""A disk that is open for writing, past the page cache, and for nobody else."""

from __future__ import annotations

import array
import contextlib
import errno
import fcntl
import mmap
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from builder.core.errors import UserError

_ZERO_OUT, _REREAD = 0x127F, 0x125F  # linux/fs.h: BLKZEROOUT, BLKRRPART
_STEP = 64 << 20  # of one BLKZEROOUT: Ctrl-C is heard in between
PIECE = 4 << 20
_BUSY = "umount it, and end what uses it: lsblk; fuser -v"


@dataclass(frozen=True)
class Target:
    """An open disk of `bytes`; `direct` when reads and writes go past the page cache."""

    path: Path
    handle: int
    bytes: int
    device: bool
    direct: bool

    def write(self, data: memoryview, offset: int) -> None:
        """Write all of `data`. Raises UserError when the disk does not take it."""
        done = 0
        while done < len(data):
            try:
                done += os.pwrite(self.handle, data[done:], offset + done)
            except OSError as error:
                raise _failed(self.path, "write", offset + done, error) from None

    def read(self, offset: int, view: memoryview) -> None:
        """Fill `view` from the disk. Raises UserError when it cannot be read."""
        done = 0
        while done < len(view):
            try:
                count = os.preadv(self.handle, [view[done:]], offset + done)
            except OSError as error:
                raise _failed(self.path, "read", offset + done, error) from None
            if not count:
                raise _failed(self.path, "read", offset + done, OSError(errno.EIO, "it ends"))
            done += count

    def clear(self, offset: int, count: int) -> Iterator[int]:
        """Make bytes read as zeros, yielding how many are done.

        A disk that cannot do so by itself is read first: a stick reads faster than it writes,
        and new ones are empty.
        """
        end = offset + count
        while offset < end:
            piece = min(_STEP, end - offset)
            if self.device and self._zeroes_by_itself():
                self._zero_out(offset, piece)
            else:
                self._zero_what_is_not(offset, piece)
            offset += piece
            yield piece

    def flush(self) -> None:
        """Wait until the disk has everything; forget what the page cache has of it."""
        try:
            os.fsync(self.handle)
        except OSError as error:
            raise _failed(self.path, "flush", 0, error) from None
        os.posix_fadvise(self.handle, 0, 0, os.POSIX_FADV_DONTNEED)

    def _zeroes_by_itself(self) -> bool:
        queue = Path("/sys/class/block", self.path.resolve().name, "queue/write_zeroes_max_bytes")
        try:
            return int(queue.read_text()) > 0
        except (OSError, ValueError):
            return False

    def _zero_out(self, offset: int, count: int) -> None:
        try:
            fcntl.ioctl(self.handle, _ZERO_OUT, array.array("Q", (offset, count)))
        except OSError as error:
            raise _failed(self.path, "clear", offset, error) from None

    def _zero_what_is_not(self, offset: int, count: int) -> None:
        end, zeros = offset + count, bytes(PIECE)
        with mmap.mmap(-1, PIECE) as buffer, memoryview(buffer) as view:
            while offset < end:
                size = min(PIECE, end - offset)
                self.read(offset, view[:size])
                if buffer[:size] != zeros[:size]:
                    view[:size] = zeros[:size]
                    self.write(view[:size], offset)
                offset += size


@contextlib.contextmanager
def opened(path: Path) -> Iterator[Target]:
    """Open a disk alone (open(2), O_EXCL: no mount, no RAID, no LVM has it), or a plain file.

    Afterwards the kernel is asked to look at the new partitions. Raises UserError.
    """
    device = path.is_block_device()
    handle, direct = _open(path, os.O_RDWR | os.O_CLOEXEC | (os.O_EXCL if device else 0))
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)  # udev looks at it when we are done
        yield Target(path, handle, os.lseek(handle, 0, os.SEEK_END), device, direct)
        if device:
            with contextlib.suppress(OSError):  # partitions of loop devices are off, as a rule
                fcntl.ioctl(handle, _REREAD)
    except BlockingIOError:
        raise UserError(f"{path}: another program works on it", hint=_BUSY) from None
    finally:
        os.close(handle)


def _open(path: Path, flags: int) -> tuple[int, bool]:
    try:
        return os.open(path, flags | os.O_DIRECT), True
    except OSError as error:
        if error.errno == errno.EBUSY:
            raise UserError(f"{path}: is in use", hint=_BUSY) from None
        if error.errno == errno.EINVAL:  # a file system in memory
            return os.open(path, flags), False
        hint = "run it as root" if error.errno in (errno.EACCES, errno.EPERM) else None
        raise UserError(f"{path}: cannot be opened: {error.strerror}", hint=hint) from None


def _failed(path: Path, what: str, offset: int, error: OSError) -> UserError:
    fact = f"{path}: {what} at {offset >> 20} MiB: {error.strerror}"
    return UserError(fact, hint="the disk is failing or was pulled out: dmesg; take another")
