"""What imgnode-health.service must keep to, and what its process loads."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from imgnode.health.watch import _LIMIT_S, ROUND_S

ROOT = Path(__file__).parents[2]
UNIT = ROOT / "units/system/imgnode-health.service"
PAIRS = [
    line.split("=", 1) for line in UNIT.read_text().splitlines() if "=" in line and line[0] != "#"
]


def values(key: str) -> list[str]:
    return [word for name, value in PAIRS if name == key for word in value.split()]


def test_it_watches_and_is_watched() -> None:
    assert values("Type") == ["notify"]
    assert values("Restart") == ["always"]
    assert values("StartLimitIntervalSec") == ["0"]
    assert int(values("WatchdogSec")[0]) >= 6 * ROUND_S
    preset = (ROOT / "units/system-preset/00-imgnode.preset").read_text().splitlines()
    assert "enable imgnode-health.service" in preset


def test_no_target_waits_for_it_and_it_outlives_what_it_watches() -> None:
    assert values("DefaultDependencies") == ["no"]
    assert values("Before") == values("Conflicts") == ["shutdown.target"]
    strong = [word for key in ("Requires", "BindsTo", "PartOf") for word in values(key)]
    assert strong == ["sysinit.target"]


@pytest.mark.parametrize(
    "key", ["PrivateDevices", "DeviceAllow", "ProtectClock", "ProtectKernelLogs", "PrivateNetwork",
            "ProtectProc", "MemoryDenyWriteExecute", "PrivatePIDs", "PrivateUsers"]
)  # fmt: skip
def test_what_it_looks_at_is_not_closed_to_it(key: str) -> None:
    """GPUs are files in /dev, Xids stand in /dev/kmsg, NVIDIA's library maps as it likes."""
    assert values(key) == []


def test_a_hang_is_told_by_us_before_systemd_ends_the_loop() -> None:
    """The loop itself never waits for a check; what is left behind must not pile up either."""
    assert max(_LIMIT_S.values()) < 600
    assert int(values("TasksMax")[0]) >= 32


@pytest.mark.allow_commands(Path(sys.executable).name)
def test_its_process_loads_little() -> None:
    """Each of these takes a megabyte or more of memory, on a node without GPUs (docs/health.md)."""
    heavy = "argparse asyncio ctypes email http.client imgnode.gpu.check imgnode.serve.command "
    heavy += "imgnode.commands.status ssl tempfile urllib.request yaml"
    code = "import sys, imgnode.health.watch; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-P", "-c", code],
        capture_output=True, text=True, check=True, timeout=60,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert set(heavy.split()) & set(done.stdout.split()) == set()
