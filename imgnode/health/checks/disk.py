"""The disk: room on /var, /var writable and whole, the boot partition there."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from imgnode.health.contract import Finding, Level, Remedy

NAME = "disk"
_DEGRADED = Path("run/imgnode/var-degraded")
_LOCKED = Path("run/imgnode/var-locked")  # what a person can do (image/initrd-tpm)
_ENTRIES = Path("boot/EFI/Linux")  # below the automount of systemd-gpt-auto-generator(8)
_FULL_BYTES, _FULL_FILES = 128 << 20, 1000  # as the gate judges (imgnode/gate/checks/disk.py)
_LOW_SHARE = 0.05
_BOOT_S = 3600.0
_LOW_BYTES = 1 << 30
_ROOM = "imgnode model list, imgnode layers gc, du -xsh /var/lib/imgnode/*"
_LOOK = "dmesg, lsblk; a disk that does not write is to be replaced"


@dataclass
class DiskCheck:
    """Whether /var can be relied on. A disk that hangs shows as a check that hangs."""

    root: Path = Path("/")
    name: str = NAME
    every_s: float = 30.0
    _no_boot: list[Finding] = field(init=False, default_factory=list)
    _boot_at: float | None = field(init=False, default=None)  # when it was last looked at

    def supported(self) -> bool:
        """Every node has /var."""
        return True

    def look(self, now: float) -> list[Finding]:
        """Look once."""
        degraded = self.root / _DEGRADED
        if degraded.exists():
            fact = f"/var is VOLATILE: {degraded.read_text().strip()}"
            locked = self.root / _LOCKED
            hint = locked.read_text().strip() if locked.exists() else _LOOK
            return [Finding(NAME, "volatile", Level.FAILED, fact, hint)]
        seen = os.statvfs(self.root / "var")
        found = [*_room(seen), *self._errors(), *self._boot(now)]
        if seen.f_flag & os.ST_RDONLY:
            fact = "/var has become read-only: the kernel does so after errors"
            hint = f"reboot checks the file system; {_LOOK}"
            found.append(Finding(NAME, "read-only", Level.FAILED, fact, hint, Remedy.REBOOT))
        return found

    def _errors(self) -> Iterator[Finding]:
        """Yield what ext4 has noted on itself (the kernel's Documentation/ABI, sysfs-fs-ext4)."""
        number = (self.root / "var").stat().st_dev
        device = self.root / f"sys/dev/block/{os.major(number)}:{os.minor(number)}"
        try:
            text = (self.root / f"sys/fs/ext4/{device.readlink().name}/errors_count").read_text()
        except OSError:
            return
        if int(text):
            fact = f"the file system of /var has {int(text)} errors"
            yield Finding(NAME, "errors", Level.WARNING, fact, f"reboot checks it; {_LOOK}")

    def _boot(self, now: float) -> list[Finding]:
        """Look seldom: a look mounts the partition, and it should lie unmounted and clean."""
        if self._boot_at is not None and now - self._boot_at < _BOOT_S:
            return self._no_boot
        self._boot_at, self._no_boot = now, []
        try:
            there = (self.root / _ENTRIES).is_dir()
        except OSError:
            there = False
        if not there:
            fact = "the boot partition is not there: no update can be written"
            hint = "systemctl status boot.automount; lsblk"
            self._no_boot = [Finding(NAME, "esp", Level.WARNING, fact, hint)]
        return self._no_boot


def _room(seen: os.statvfs_result) -> Iterator[Finding]:
    free, size = seen.f_bavail * seen.f_frsize, seen.f_blocks * seen.f_frsize
    figures = {"free_bytes": float(free), "size_bytes": float(size)}
    fact = f"/var has {free >> 20} MiB left"
    if free < _FULL_BYTES:
        yield Finding(NAME, "full", Level.FAILED, fact, _ROOM, evidence=figures)
    elif free < min(_LOW_BYTES, size * _LOW_SHARE):
        yield Finding(NAME, "low", Level.WARNING, fact, _ROOM, evidence=figures)
    if seen.f_files and seen.f_favail < _FULL_FILES:
        fact = f"/var has room for {seen.f_favail} more files"
        figures = {"free_files": float(seen.f_favail)}
        yield Finding(NAME, "files", Level.FAILED, fact, _ROOM, evidence=figures)
