"""What imgnode-gpu.service must keep to, whatever else changes in it."""

from __future__ import annotations

from pathlib import Path

UNIT = Path(__file__).parents[2] / "units/system/imgnode-gpu.service"
PAIRS = [
    line.split("=", 1) for line in UNIT.read_text().splitlines() if "=" in line and line[0] != "#"
]


def values(key: str) -> list[str]:
    return [word for name, value in PAIRS if name == key for word in value.split()]


def test_an_ill_gpu_never_fails_the_boot() -> None:
    """`-`: an exit code is ignored; RemainAfterExit: a hung child is not waited for."""
    assert values("ExecStart")[0].startswith("-")
    assert values("RemainAfterExit") == ["yes"]
    assert values("OnFailure") == values("Requires") == []


def test_it_comes_before_what_needs_gpus() -> None:
    assert {"docker.service", "vllm.service"} <= set(values("Before"))


def test_nothing_closes_dev_or_sys() -> None:
    """ProtectClock= implies DeviceAllow=, which closes /dev/nvidia* (systemd.exec(5))."""
    closing = {
        "PrivateDevices", "DeviceAllow", "DevicePolicy", "ProtectClock", "ProtectKernelModules",
        "ProtectKernelTunables", "MemoryDenyWriteExecute",
    }  # fmt: skip
    assert not closing & {name for name, _ in PAIRS}


def test_images_without_a_driver_skip_it() -> None:
    assert values("ConditionPathExists") == ["/usr/bin/nvidia-modprobe"]
