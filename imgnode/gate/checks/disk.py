"""The writable partition: mounted, writable, with room."""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass
from pathlib import Path

from imgnode.files import write_atomic
from imgnode.gate.attribution import DISK
from imgnode.gate.finding import EXTERNAL, HARDWARE, IMAGE, Finding, Look

_PROBE = Path("var/lib/imgnode/gate/.probe")
_DEGRADED = Path("run/imgnode/var-degraded")
_LOCKED = Path("run/imgnode/var-locked")  # what a person can do (image/initrd-tpm)
_TPM = Path("dev/tpmrm0")
_LEAST_BYTES = 128 << 20
_LEAST_FILES = 1000
_LOOK = "dmesg, lsblk; a disk that does not write is to be replaced"
_ROOM = "imgnode model list, imgnode layers gc, du -xsh /var/lib/imgnode/*"


@dataclass(frozen=True)
class DiskCheck:
    """Whether /var can be relied on.

    The root on the same disk could be read by this very kernel: a /var that cannot be mounted or
    written is the machine's matter; one that opens for another version but not for this is not.
    """

    root: Path = Path("/")
    name: str = DISK
    limit_s: float = 0

    def look(self) -> Look:
        """Look once."""
        degraded = self.root / _DEGRADED
        if degraded.exists():
            return Look((self._volatile(degraded.read_text().strip()),))
        try:
            write_atomic(self.root / _PROBE, "can this be written?\n")
            (self.root / _PROBE).unlink()
        except OSError as error:
            return Look((_refused(error),))
        return Look(_room(os.statvfs(self.root / "var")))

    def _volatile(self, why: str) -> Finding:
        """Blame the version where the TPM that is there does not open /var for it."""
        fact, locked = f"/var is VOLATILE: {why}", self.root / _LOCKED
        if not locked.exists():
            return Finding(DISK, HARDWARE, fact, _LOOK)
        whose = IMAGE if (self.root / _TPM).exists() else HARDWARE
        return Finding(DISK, whose, fact, locked.read_text().strip())


def _refused(error: OSError) -> Finding:
    fact = f"/var cannot be written: {error.strerror}"
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return Finding(DISK, EXTERNAL, fact, _ROOM)
    return Finding(DISK, HARDWARE, fact, _LOOK)


def _room(seen: os.statvfs_result) -> tuple[Finding, ...]:
    free = seen.f_bavail * seen.f_frsize
    if free < _LEAST_BYTES:
        fact = f"/var has {free >> 20} MiB left, less than {_LEAST_BYTES >> 20}"
        return (Finding(DISK, EXTERNAL, fact, _ROOM),)
    if seen.f_files and seen.f_favail < _LEAST_FILES:
        fact = f"/var has room for {seen.f_favail} more files, less than {_LEAST_FILES}"
        return (Finding(DISK, EXTERNAL, fact, _ROOM),)
    return ()
