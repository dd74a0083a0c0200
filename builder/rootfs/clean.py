"""Removes what would differ between two builds, or has no place in an immutable root."""

from __future__ import annotations

import shutil
from pathlib import Path

from builder.core.scrub import fix_shadow, remove, remove_globs

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
    remove_globs(root, _REMOVED)
    for name in _EMPTIED:
        for path in (root / name).iterdir():
            remove(path)
    for name, target in _LINKS.items():
        (root / name).rmdir()
        (root / name).symlink_to(target)
    fix_shadow(root / "etc/shadow", epoch)
    (root / "etc/machine-id").write_text("")
    _relink(root / "etc/resolv.conf", "../run/systemd/resolve/stub-resolv.conf")
    _relink(root / "etc/mtab", "../proc/self/mounts")
    _move_dpkg(root)


def _relink(path: Path, target: str) -> None:
    path.unlink(missing_ok=True)
    path.symlink_to(target)


def _move_dpkg(root: Path) -> None:
    """Keep the package database in the image: it describes the image, not the node."""
    target = root / "usr/lib/sysimage"
    target.mkdir()
    shutil.move(root / "var/lib/dpkg", target / "dpkg")  # overlayfs cannot rename a folder
    (root / "var/lib/dpkg").symlink_to("../../usr/lib/sysimage/dpkg")
