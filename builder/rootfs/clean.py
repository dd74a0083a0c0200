"""Removes what would differ between two builds, or has no place in an immutable root."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

_DAY_S = 86400
# Folders that are mount points or links on the node: empty in the image.
_EMPTIED = ("boot", "dev", "proc", "run", "sys", "tmp", "home", "root", "srv", "opt")
_REMOVED = (
    "vmlinuz*",
    "initrd.img*",
    "etc/*-",
    "etc/.pwd.lock",
    "etc/.resolv.conf.systemd-resolved.bak",
    "etc/apt",
    "etc/cron.*",
    "etc/dpkg/dpkg.cfg.d/99mmdebstrap",
    "etc/init.d",
    "etc/rc?.d",
    "etc/runit",
    "etc/ssh/ssh_host_*",
    "etc/systemd/system/*",
    "etc/systemd/network/*",
    "etc/udev/hwdb.bin",
    "usr/lib/tmpfiles.d/home.conf",  # would make folders where we have links
    "usr/lib/tmpfiles.d/provision.conf",
    "usr/lib/udev/hwdb.d",
    "var/backups/*",
    "var/cache/*",
    "var/lib/apt",
    "var/lib/dpkg/*-old",
    "var/lib/dpkg/lock*",
    "var/lib/dpkg/triggers/Lock",
    "var/lib/initscripts",
    "var/lib/pam",
    "var/lib/python",
    "var/lib/shells.state",
    "var/lib/systemd/deb-systemd-helper-*",
    "var/lib/systemd/deb-systemd-user-helper-*",
    "var/lib/ucf",
    "var/log/*",
    "var/tmp/*",
)
# Writable homes live on /var; the root only has links.
_LINKS = {"home": "var/home", "root": "var/roothome", "srv": "var/srv", "opt": "var/opt"}


def clean(root: Path, epoch: int) -> None:
    """Bring an installed root into the state in which it is sealed."""
    for pattern in _REMOVED:
        for path in sorted(root.glob(pattern)):
            remove(path)
    for name in _EMPTIED:
        for path in (root / name).iterdir():
            remove(path)
    for name, target in _LINKS.items():
        (root / name).rmdir()
        (root / name).symlink_to(target)
    _fix_shadow(root / "etc/shadow", epoch)
    (root / "etc/machine-id").write_text("")
    _relink(root / "etc/resolv.conf", "../run/systemd/resolve/stub-resolv.conf")
    _relink(root / "etc/mtab", "../proc/self/mounts")
    _move_dpkg(root)


def remove(path: Path) -> None:
    """Remove a file, a link or a whole folder."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _fix_shadow(shadow: Path, epoch: int) -> None:
    """Lock every account and give all the same day of last change (shadow(5))."""
    day = str(epoch // _DAY_S)
    lines = []
    for line in shadow.read_text().splitlines():
        name, _, _, *rest = line.split(":")
        lines.append(":".join([name, "!*", day, *rest]))
    shadow.write_text("\n".join(lines) + "\n")
    gshadow = shadow.with_name("gshadow")
    gshadow.write_text(re.sub(r"(?m)^([^:]+):[^:]*:", r"\1:!*:", gshadow.read_text()))


def _relink(path: Path, target: str) -> None:
    path.unlink(missing_ok=True)
    path.symlink_to(target)


def _move_dpkg(root: Path) -> None:
    """Keep the package database in the image: it describes the image, not the node."""
    target = root / "usr/lib/sysimage"
    target.mkdir()
    shutil.move(root / "var/lib/dpkg", target / "dpkg")  # overlayfs cannot rename a folder
    (root / "var/lib/dpkg").symlink_to("../../usr/lib/sysimage/dpkg")
