"""What an installed root loses before it is sealed, and what it keeps."""

from __future__ import annotations

from pathlib import Path

import pytest

from builder.rootfs.clean import _EMPTIED, _REMOVED, clean
from tests.unit.fakes import EPOCH

SHADOW = "root:$y$j9T$salt$hash:19000:0:99999:7:::\nadmin::19001:0:99999:7:::\nsshd:!:19002::::::\n"
GSHADOW = "root:*::\nsudo:$6$x::admin\nempty:::\n"
KEPT = (
    "etc/passwd",
    "etc/ssh/sshd_config",
    "etc/ssh/moduli",
    "etc/systemd/system.conf",
    "etc/udev/udev.conf",
    "etc/dpkg/dpkg.cfg",
    "usr/lib/tmpfiles.d/systemd.conf",
    "usr/lib/udev/rules.d/50.rules",
    "var/lib/dpkg/status",
    "var/lib/dpkg/info/bash.list",
    "var/lib/systemd/catalog/database",
    "usr/lib/init.d",
)
GONE = (
    "vmlinuz",
    "vmlinuz.old",
    "initrd.img",
    "etc/passwd-",
    "etc/.pwd.lock",
    "etc/apt/sources.list",
    "etc/cron.daily/dpkg",
    "etc/init.d/ssh",
    "etc/rc3.d/S01ssh",
    "etc/ssh/ssh_host_ed25519_key",
    "etc/ssh/ssh_host_ed25519_key.pub",
    "etc/systemd/system/multi-user.target.wants/ssh.service",
    "etc/systemd/network/99.network",
    "etc/udev/hwdb.bin",
    "usr/lib/tmpfiles.d/home.conf",
    "usr/lib/udev/hwdb.d/20-usb.hwdb",
    "var/backups/dpkg.status.0",
    "var/cache/apt/pkgcache.bin",
    "var/cache/ldconfig/aux-cache",
    "var/lib/apt/lists/x",
    "var/lib/dpkg/status-old",
    "var/lib/dpkg/lock-frontend",
    "var/lib/systemd/deb-systemd-helper-enabled/x",
    "var/lib/ucf/hashfile",
    "var/log/dpkg.log",
    "var/log/apt/history.log",
    "var/tmp/x",
    "boot/vmlinuz-6.1",
    "dev/null",
    "proc/x",
    "run/systemd/x",
    "tmp/x",
    "home/admin/.bashrc",
    "root/.bashrc",
    "srv/x",
    "opt/x/y",
)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name in _EMPTIED:
        (tmp_path / name).mkdir()
    for name in (*KEPT, *GONE):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x")
    (tmp_path / "etc/shadow").write_text(SHADOW)
    (tmp_path / "etc/gshadow").write_text(GSHADOW)
    (tmp_path / "etc/machine-id").write_text("0123\n")
    (tmp_path / "etc/resolv.conf").write_text("nameserver 10.0.0.1\n")
    (tmp_path / "usr/lib").mkdir(parents=True, exist_ok=True)
    clean(tmp_path, EPOCH)
    return tmp_path


@pytest.mark.parametrize("name", GONE)
def test_gone(root: Path, name: str) -> None:
    path = root / name
    assert not path.exists()
    assert not path.is_symlink()


@pytest.mark.parametrize("name", KEPT)
def test_kept(root: Path, name: str) -> None:
    assert (root / name).read_text() == "x"


def test_mount_points_are_left_empty(root: Path) -> None:
    for name in ("boot", "dev", "proc", "run", "sys", "tmp"):
        assert (root / name).is_dir()
        assert not list((root / name).iterdir())


def test_writable_homes_lie_on_var(root: Path) -> None:
    links = {name: str((root / name).readlink()) for name in ("home", "root", "srv", "opt")}
    assert links == {"home": "var/home", "root": "var/roothome", "srv": "var/srv", "opt": "var/opt"}


def test_no_account_has_a_password(root: Path) -> None:
    day = str(EPOCH // 86400)
    assert (root / "etc/shadow").read_text() == (
        f"root:!*:{day}:0:99999:7:::\nadmin:!*:{day}:0:99999:7:::\nsshd:!*:{day}::::::\n"
    )
    assert (root / "etc/gshadow").read_text() == "root:!*::\nsudo:!*::admin\nempty:!*::\n"


def test_the_node_makes_its_own_identity(root: Path) -> None:
    assert (root / "etc/machine-id").read_text() == ""
    assert str((root / "etc/resolv.conf").readlink()) == "../run/systemd/resolve/stub-resolv.conf"
    assert str((root / "etc/mtab").readlink()) == "../proc/self/mounts"


def test_the_package_database_is_part_of_the_image(root: Path) -> None:
    assert (root / "usr/lib/sysimage/dpkg/status").read_text() == "x"
    assert (root / "var/lib/dpkg").is_symlink()
    assert (root / "var/lib/dpkg/status").samefile(root / "usr/lib/sysimage/dpkg/status")


def test_no_rule_reaches_outside_the_root() -> None:
    assert not [rule for rule in _REMOVED if rule.startswith("/") or ".." in rule]
