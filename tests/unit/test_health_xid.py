"""Xid lines of recorded kernel logs, what they ask for, and counts that survive."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from imgnode.files import write_atomic
from imgnode.health import kmsg
from imgnode.health.checks import xid
from imgnode.health.checks.xid import CATALOGUE, STATE, XidCheck
from imgnode.health.contract import Finding, Level, Remedy
from imgnode.health.kmsg import KernelLog, Record
from tests.unit.serve_node import put

FIXTURE = Path(__file__).parents[1] / "fixtures/kmsg/xid.txt"
LAST = 171238.0  # the time of the last recorded line


class Log:
    """Gives each record once, as the device does; `lines` are those of a new reader, too."""

    def __init__(self, lines: list[bytes]) -> None:
        self.lines, self.read_until = lines, 0

    def there(self) -> bool:
        return True

    def read(self) -> Iterator[Record]:
        new, self.read_until = self.lines[self.read_until :], len(self.lines)
        yield from filter(None, map(kmsg.parse, new))

    def say(self, text: str, at: float = LAST) -> None:
        number = 5000 + len(self.lines)
        self.lines.append(f"4,{number},{int(at * 1e6)},-;{text}\n".encode())


@pytest.fixture
def node(tmp_path: Path) -> Path:
    put(tmp_path / "proc/sys/kernel/random/boot_id", "boot-1\n")
    devices = [{"index": 4, "address": "0000:9B:00.0"}, {"index": 0, "address": "0000:05:00.0"}]
    put(tmp_path / "run/imgnode/gpu.json", {"inventory": {"devices": devices}})
    return tmp_path


def recorded() -> list[bytes]:
    return FIXTURE.read_bytes().splitlines(keepends=True)


def by_key(found: list[Finding]) -> dict[str, tuple[str, Level, Remedy, tuple[int, ...]]]:
    return {
        f"{one.evidence['address']} {one.key}": (one.key, one.level, one.remedy, one.gpus)
        for one in found
    }


def test_recorded_lines(node: Path) -> None:
    check = XidCheck(node, Log(recorded()))
    found = by_key(check.look(LAST + 10))
    assert found == {
        "0000:9b:00 119": ("119", Level.FAILED, Remedy.GPU_RESET, (4,)),
        "0009:01:00 149": ("149", Level.WARNING, Remedy.NONE, ()),
        # The driver itself says what it wants; which GPU that is, NVML has not told.
        "0009:01:00 154": ("154", Level.FAILED, Remedy.REBOOT, ()),
        "0019:01:00 154": ("154", Level.FAILED, Remedy.REBOOT, ()),
        "0000:05:00 79": ("79", Level.FAILED, Remedy.REBOOT, (0,)),
    }
    assert check.counts["0000:9b:00"] == {"119": 5}
    assert check.counts["0000:03:00"] == {"14": 1}  # to be ignored, and counted
    assert check.tell() == {"counts": check.counts}


def test_what_is_told(node: Path) -> None:
    log = Log([])
    log.say("NVRM: Xid (PCI:0000:05:00): 31, pid=7, name=VLLM, Ch 1, MMU Fault: ENGINE GRAPHICS")
    (one,) = XidCheck(node, log).look(LAST)
    assert one.fact == (
        "GPU 0000:05:00: Xid 31 (FIFO_ERROR_MMU_ERR_FLT), NVIDIA's advice: RESTART_APP"
    )
    assert (one.level, one.remedy) == (Level.WARNING, Remedy.NONE)
    assert one.evidence["said"] == "pid=7, name=VLLM, Ch 1, MMU Fault: ENGINE GRAPHICS"


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("NVRM: Xid (PCI:0000:05:00): 95, Uncontained", (Level.FAILED, Remedy.GPU_RESET)),
        ("NVRM: Xid (PCI:0000:05:00): 48, DBE", (Level.FAILED, Remedy.GPU_RESET)),
        ("NVRM: Xid (PCI:0000:05:00): 74, NVLink", (Level.FAILED, Remedy.GPU_RESET)),
        ("NVRM: Xid (PCI:0000:05:00): 79", (Level.FAILED, Remedy.REBOOT)),
        ("NVRM: Xid (05:00): 54, power", (Level.WARNING, Remedy.NONE)),
        ("NVRM: Xid (PCI:0000:05:00): 9999, new", (Level.WARNING, Remedy.NONE)),
        (
            "NVRM: Xid (PCI:0000:05:00): 154, GPU recovery action changed from 0x0 (None) to 0x2 "
            "(Node Reboot Required)",
            (Level.FAILED, Remedy.REBOOT),
        ),
    ],
)
def test_what_an_xid_asks_for(node: Path, line: str, told: tuple[Level, Remedy]) -> None:
    log = Log([])
    log.say(line)
    (one,) = XidCheck(node, log).look(LAST)
    assert (one.level, one.remedy) == told
    assert one.evidence["address"] == "0000:05:00"


@pytest.mark.parametrize(
    "line",
    [
        "NVRM: Xid (PCI:0000:05:00): 63, Row Remapper: New row marked for remapping",
        "NVRM: Xid (PCI:0000:05:00): 43, Ch 1",
        "NVRM: Xid (PCI:0000:05:00): 154, GPU recovery action changed from 0x1 (GPU Reset "
        "Required) to 0x0 (None)",
        "nvidia-nvswitch0: SXid (PCI:0000:05:00.0): 12028, Non-fatal",
        "NVRM: Xid (invalid): some error",
    ],
)
def test_what_asks_for_nothing(node: Path, line: str) -> None:
    log = Log([])
    log.say(line)
    assert XidCheck(node, log).look(LAST) == []


def test_an_event_stands_for_five_minutes(node: Path) -> None:
    log = Log([])
    check = XidCheck(node, log)
    log.say("NVRM: Xid (PCI:0000:05:00): 79")
    assert len(check.look(LAST)) == 1
    assert len(check.look(LAST + 299)) == 1
    assert check.look(LAST + 300) == []
    log.say("NVRM: Xid (PCI:0000:05:00): 79", LAST + 400)
    (again,) = check.look(LAST + 401)
    assert again.evidence["count"] == 2


def test_counts_survive(node: Path) -> None:
    log = Log(recorded())
    XidCheck(node, log).look(LAST)
    again = XidCheck(node, Log(log.lines))  # a new process reads all records again
    again.look(LAST + 1000)
    assert again.counts["0000:9b:00"] == {"119": 5}
    log.say("NVRM: Xid (PCI:0000:9b:00): 119", LAST + 1001)
    again.look(LAST + 1001)
    assert again.counts["0000:9b:00"] == {"119": 6}
    put(node / "proc/sys/kernel/random/boot_id", "boot-2\n")
    after = XidCheck(node, Log([b"4,7,1000,-;NVRM: Xid (PCI:0000:9b:00): 119, x\n"]))
    after.look(10)
    assert after.counts["0000:9b:00"] == {"119": 7}
    assert json.loads((node / STATE).read_text())["boot"] == "boot-2"


def test_a_full_disk_hides_no_gpu(node: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(xid, "write_atomic", full)
    log = Log([])
    log.say("NVRM: Xid (PCI:0000:05:00): 79")
    check = XidCheck(node, log)
    assert len(check.look(LAST)) == 1
    monkeypatch.setattr(xid, "write_atomic", write_atomic)
    log.say("NVRM: Xid (PCI:0000:05:00): 79")
    check.look(LAST)
    assert json.loads((node / STATE).read_text())["counts"] == {"0000:05:00": {"79": 2}}


def test_the_catalogue_knows_what_the_code_knows() -> None:
    known = json.loads(CATALOGUE.read_text())
    assert "docs.nvidia.com" in known["source"]
    actions = {one["action"] for one in known["xids"].values()}
    assert actions >= xid._RESET | xid._QUIET
    assert known["xids"]["79"] == {"name": "GPU_HAS_FALLEN_OFF_THE_BUS", "action": "RESTART_BM"}
    assert len(known["xids"]) > 100


def test_the_device_is_read_to_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One read(2) is one record; EPIPE: records were lost; EAGAIN: that was all."""
    put(tmp_path / "dev/kmsg", "")
    answers: list[bytes | Exception] = [
        BrokenPipeError(32, "lost"),
        b"6,339,5140900,-;NET: Registered\n SUBSYSTEM=net\n",
        b"garbage",
        b"30,340,5690716,-,caller=T1;udevd[80]: starting; really\n",
        BlockingIOError(11, "no more"),
    ]

    def read(_: int, __: int) -> bytes:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(os, "read", read)
    log = KernelLog(tmp_path)
    assert log.there()
    assert list(log.read()) == [
        Record(339, 5.1409, "NET: Registered"),
        Record(340, 5.690716, "udevd[80]: starting; really"),
    ]
    assert not KernelLog(tmp_path / "nowhere").there()
