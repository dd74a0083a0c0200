"""The checks of the node itself, below a folder that plays its root."""

from __future__ import annotations

import json
import os
import types
from pathlib import Path

import pytest

from imgnode.health.checks import disk
from imgnode.health.checks.certificates import CertificatesCheck
from imgnode.health.checks.clock import ClockCheck
from imgnode.health.checks.disk import DiskCheck
from imgnode.health.checks.docker import DockerCheck
from imgnode.health.checks.gpu import GpuCheck
from imgnode.health.checks.layers import LayersCheck
from imgnode.health.checks.memory import MemoryCheck
from imgnode.health.checks.network import NetworkCheck
from imgnode.health.checks.units import UnitsCheck
from imgnode.health.contract import Finding, HealthCheck, Level, Remedy
from tests.unit import serve_node
from tests.unit.serve_node import put


def told(found: list[Finding]) -> list[tuple[str, Level, Remedy]]:
    return [(one.key, one.level, one.remedy) for one in found]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "boot/EFI/Linux").mkdir(parents=True)
    (tmp_path / "var").mkdir()
    return serve_node.make(tmp_path, epoch=1_000_000)


def room(
    monkeypatch: pytest.MonkeyPatch, free: int, *, size: int = 100 << 30, files: int = 9999
) -> None:
    seen = types.SimpleNamespace(
        f_bavail=free >> 12, f_blocks=size >> 12, f_frsize=4096, f_files=10000, f_favail=files,
        f_flag=0,
    )  # fmt: skip
    monkeypatch.setattr(os, "statvfs", lambda _: seen)


def test_a_good_disk(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    room(monkeypatch, 50 << 30)
    before = sorted(root.rglob("*"))
    assert DiskCheck(root).look(0) == []
    assert sorted(root.rglob("*")) == before


@pytest.mark.parametrize(
    ("free", "size", "files", "keys"),
    [
        ((128 << 20) - 4096, 100 << 30, 9999, ["full"]),
        ((1 << 30) - 4096, 100 << 30, 9999, ["low"]),
        (900 << 20, 4 << 30, 9999, []),  # more than 5 % of a small one
        (50 << 30, 100 << 30, 999, ["files"]),
    ],
)
def test_room_on_var(
    root: Path, monkeypatch: pytest.MonkeyPatch, free: int, size: int, files: int, keys: list[str]
) -> None:
    room(monkeypatch, free, size=size, files=files)
    found = DiskCheck(root).look(0)
    assert [one.key for one in found] == keys
    failed = {one.key for one in found if one.level is Level.FAILED}
    assert failed == set(keys) - {"low"}


def test_a_disk_that_is_at_fault(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    room(monkeypatch, 50 << 30)
    number = (root / "var").stat().st_dev
    device = root / f"sys/dev/block/{os.major(number)}:{os.minor(number)}"
    device.parent.mkdir(parents=True)
    device.symlink_to("../../devices/pci/block/vda/vda7")
    errors = root / "sys/fs/ext4/vda7/errors_count"
    put(errors, "0\n")
    assert DiskCheck(root).look(0) == []
    put(errors, "3\n")
    assert told(DiskCheck(root).look(0)) == [("errors", Level.WARNING, Remedy.NONE)]
    os.statvfs(root).f_flag = os.ST_RDONLY  # type: ignore[misc]
    assert told(DiskCheck(root).look(0))[1] == ("read-only", Level.FAILED, Remedy.REBOOT)
    put(root / disk._DEGRADED, "/dev/vda7 cannot be mounted\n")
    (one,) = DiskCheck(root).look(0)
    assert (one.key, one.fact) == ("volatile", "/var is VOLATILE: /dev/vda7 cannot be mounted")


def test_the_boot_partition(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    room(monkeypatch, 50 << 30)
    check = DiskCheck(root)
    assert check.look(0) == []
    (root / "boot/EFI/Linux").rmdir()
    assert check.look(3599) == []  # a look would mount it
    gone = [("esp", Level.WARNING, Remedy.NONE)]
    assert told(check.look(3600)) == told(check.look(3630)) == gone
    (root / "boot/EFI/Linux").mkdir()
    assert told(check.look(7199)) == gone
    assert check.look(7200) == []


def memory(
    root: Path, *, free: int = 5000, full: tuple[float, float] = (0, 0), kills: int = 0
) -> None:
    put(root / "proc/meminfo", f"MemTotal:  10000 kB\nMemFree: 1 kB\nMemAvailable: {free} kB\n")
    lines = "some avg10=9.00 avg60=9.00 avg300=9.00 total=1\n"
    lines += f"full avg10=0.00 avg60={full[0]:.2f} avg300={full[1]:.2f} total=1\n"
    put(root / "proc/pressure/memory", lines)
    put(root / "proc/vmstat", f"nr_free_pages 1\noom_kill {kills}\n")


def test_memory(root: Path) -> None:
    check = MemoryCheck(root)
    memory(root, kills=2)  # those before we looked are not ours to tell
    assert check.look(0) == []
    memory(root, free=199, kills=2)
    assert told(check.look(30)) == [("low", Level.WARNING, Remedy.NONE)]
    memory(root, full=(21, 10), kills=2)
    assert told(check.look(60)) == [("pressure", Level.WARNING, Remedy.NONE)]
    memory(root, full=(60, 41), kills=2)
    assert told(check.look(90)) == [("pressure", Level.FAILED, Remedy.NONE)]
    memory(root, kills=3)
    assert told(check.look(120)) == [("oom", Level.WARNING, Remedy.NONE)]
    assert told(check.look(3719)) == [("oom", Level.WARNING, Remedy.NONE)]
    assert check.look(3720) == []
    (root / "proc/pressure/memory").unlink()  # a kernel that does not measure it
    assert check.look(3750) == []
    put(root / "proc/meminfo", "")
    with pytest.raises(ValueError, match="no MemTotal"):
        check.look(0)


class Clock:
    def __init__(self, root: Path) -> None:
        self.now, self.offset = 2000.0, 2_000_000.0
        self.stamp = root / "run/systemd/timesync/synchronized"
        put(self.stamp, "")
        self.check = ClockCheck(root, wall=lambda: self.now + self.offset)
        self.answered()

    def answered(self) -> None:
        os.utime(self.stamp, (0, self.now + self.offset))

    def look(self, seconds: float = 10) -> list[tuple[str, Level, Remedy]]:
        self.now += seconds
        return told(self.check.look(self.now))


def test_a_jump_of_the_clock_is_told_for_a_while(root: Path) -> None:
    clock = Clock(root)
    assert clock.look() == clock.look() == []
    clock.offset += 1.5  # less than a leap second's fuss
    assert clock.look() == []
    clock.offset -= 300
    assert clock.look() == [("jump", Level.WARNING, Remedy.NONE)]
    assert clock.look(899) == [("jump", Level.WARNING, Remedy.NONE)]
    assert clock.look() == []


def test_time_servers(root: Path) -> None:
    clock = Clock(root)
    assert clock.look(6 * 3600) == []
    lost = [("unsynchronised", Level.WARNING, Remedy.UNIT)]
    assert clock.look() == lost
    clock.answered()
    assert clock.look() == []
    clock.stamp.unlink()
    assert clock.look() == lost
    clock.now = 100.0  # just booted
    clock.check = ClockCheck(root, wall=lambda: clock.now + clock.offset)
    assert clock.look() == []


def test_a_clock_before_the_image(root: Path) -> None:
    clock = Clock(root)
    clock.offset = -1500
    (found,) = clock.check.look(2000.0)
    assert (found.key, found.level, found.unit) == (
        "behind",
        Level.FAILED,
        "systemd-timesyncd.service",
    )
    assert found.fact == "the clock says 1970-01-01, the image is of 1970-01-12"


def interface(root: Path, name: str, *, carrier: str | None) -> None:
    put(root / "sys/class/net" / name / "device/x", "")
    if carrier is not None:
        put(root / "sys/class/net" / name / "carrier", f"{carrier}\n")


ROUTE = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n"
DEFAULT = "eth0\t00000000\t0202000A\t0003\t0\t0\t1024\t00000000\t0\t0\t0\n"
LOCAL = "eth0\t0002000A\t00000000\t0001\t0\t0\t1024\t00FFFFFF\t0\t0\t0\n"
ZERO = "0" * 32
DEFAULT6 = f"{ZERO} 00 {ZERO} 00 {'fe80' + '0' * 28} 00000400 1 0 00450003     eth0\n"
REJECT = "*\t00000000\t00000000\t0201\t0\t0\t0\t00000000\t0\t0\t0\n"
REJECT6 = f"{ZERO} 00 {ZERO} 00 {ZERO} ffffffff 1 0 00200200       lo\n"


def test_network(root: Path) -> None:
    check = NetworkCheck(root)
    assert not check.supported()
    put(root / "sys/class/net/lo/carrier", "1\n")
    interface(root, "eth0", carrier="1")
    interface(root, "eth1", carrier=None)
    assert check.supported()
    put(root / "proc/net/route", ROUTE + LOCAL + REJECT)
    put(root / "proc/net/ipv6_route", REJECT6)
    assert told(check.look(0)) == [("route", Level.WARNING, Remedy.UNIT)]
    put(root / "proc/net/ipv6_route", REJECT6 + DEFAULT6)
    assert check.look(0) == []
    (root / "proc/net/ipv6_route").unlink()
    put(root / "proc/net/route", ROUTE + LOCAL + DEFAULT)
    assert check.look(0) == []
    put(root / "proc/net/route", ROUTE + LOCAL)
    assert told(check.look(0)) == [("route", Level.FAILED, Remedy.UNIT)]
    interface(root, "eth0", carrier="0")
    (found,) = check.look(0)
    assert (found.key, found.level, found.remedy) == ("carrier", Level.FAILED, Remedy.NONE)
    assert "eth0, eth1" in found.fact


def test_all_of_them_keep_the_contract(root: Path) -> None:
    found: list[HealthCheck] = [
        DiskCheck(root), MemoryCheck(root), ClockCheck(root), NetworkCheck(root),
        UnitsCheck(root), DockerCheck(root), LayersCheck(root), GpuCheck(root),
        CertificatesCheck(root),
    ]  # fmt: skip
    names = [one.name for one in found]
    assert len(set(names)) == len(names)
    assert all(one.every_s >= 10 for one in found)
    assert json.loads(json.dumps(names)) == names
