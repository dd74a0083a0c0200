"""Calls the running version good: its boot entry loses its counter.

Stands in for systemd-bless-boot(8), which renames the file. On a FAT that takes several writes, and
a power cut between them leaves an entry of no bytes: where it was the only one, nothing boots any
more. Here the entry is copied, and the counted one goes when the copy is on the disk.
"""

from __future__ import annotations

import errno
import mmap
import os
import re
import shutil
from pathlib import Path

from imgnode.bootentries import ENTRIES, entries
from imgnode.files import flush_folder
from imgnode.identity import read_identity
from imgnode.layers.versions import running_stem

_SECTOR = 512  # a disk writes one whole or not at all
_PROGRAM = b"MZ"
_CHUNK = 1 << 20
_SHORT = re.compile(r"[^.]{1,6}~\d+\.efi", re.IGNORECASE)  # a FAT's own name for a long one


def bless(root: Path = Path("/")) -> bool:
    """Leave one entry of the running version, without a counter; tell whether anything was done.

    Safe to repeat, also after a power cut at any point. Raises OSError.
    """
    stem = running_stem(root)
    counted = [one.path for one in entries(root) if one.stem == stem and one.left is not None]
    counted += _nameless(root)
    if not counted:
        return False
    good = root / ENTRIES / f"{stem}.efi"
    if not _is_whole(good):
        _replace(max(counted, key=lambda path: path.stat().st_size), good)
    for path in counted:
        path.unlink(missing_ok=True)
    flush_folder(good.parent)
    return True


def _nameless(root: Path) -> list[Path]:
    """Return entries of the running version that have only their short names left.

    The firmware renames an entry when it counts a try, and a power cut may fall between the
    deletion of the long name's parts and the new name. The boot loader starts such a file.
    """
    found = []
    for path in (root / ENTRIES).iterdir():
        if _SHORT.fullmatch(path.name) and _is_whole(path):
            running = f"roothash={read_identity(root).root_hash}".encode()
            with (
                path.open("rb") as stream,
                mmap.mmap(stream.fileno(), 0, prot=mmap.PROT_READ) as uki,
            ):
                if uki.find(running) >= 0:
                    found.append(path)
    return found


def _replace(source: Path, target: Path) -> None:
    try:
        copy_entry(source, target)
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        target.unlink(missing_ok=True)  # an ESP that is too small for three: as systemd does it
        source.rename(target)
        with target.open("rb") as stream:
            os.fsync(stream.fileno())


def copy_entry(source: Path, target: Path) -> None:
    """Copy a UKI so that the boot loader sees all of it or nothing. Raises OSError.

    Its first sector is written last: a file that does not begin as a program is no entry.
    """
    with source.open("rb") as stream, target.open("wb") as out:
        head = stream.read(_SECTOR)
        out.write(bytes(len(head)))
        shutil.copyfileobj(stream, out, _CHUNK)
        out.flush()
        _flush(out.fileno(), target)
        out.seek(0)
        out.write(head)
        out.flush()
        _flush(out.fileno(), target)


def _flush(handle: int, target: Path) -> None:
    os.fsync(handle)
    flush_folder(target.parent)


def _is_whole(path: Path) -> bool:
    try:
        with path.open("rb") as stream:
            return stream.read(len(_PROGRAM)) == _PROGRAM
    except FileNotFoundError:
        return False
