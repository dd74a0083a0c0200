"""What vllm.service must keep to, whatever else changes in it."""

from __future__ import annotations

from pathlib import Path

import pytest

from imgnode.serve.docker import STOP_S
from imgnode.serve.names import NAME

UNIT = Path(__file__).parents[2] / "units/system/vllm.service"
PAIRS = [
    line.split("=", 1) for line in UNIT.read_text().splitlines() if "=" in line and line[0] != "#"
]


def values(key: str) -> list[str]:
    return [word for name, value in PAIRS if name == key for word in value.split()]


def test_no_boot_and_no_login_waits_for_a_model() -> None:
    """A target waits for what it wants (systemd.target(5)), unless that has no default order."""
    assert values("DefaultDependencies") == ["no"]
    assert values("Before") == values("Conflicts") == ["shutdown.target"]
    assert values("WantedBy") == ["multi-user.target"]


def test_a_restart_of_docker_does_not_pull_it_down() -> None:
    assert "docker.service" in values("Wants")
    strong = [
        word for key in ("Requires", "BindsTo", "PartOf", "Requisite") for word in values(key)
    ]
    assert strong == ["sysinit.target"]


def test_secrets_of_the_seed_are_there_before_it_starts() -> None:
    assert {"cloud-init.service", "imgnode-seed.service"} <= set(values("After"))
    assert values("ImportCredential") == ["imgnode.*"]


def test_gpus_are_set_up_before_it_looks_for_them() -> None:
    assert "imgnode-gpu.service" in values("After")
    assert "imgnode-gpu.service" not in values("Wants") + values("Requires")


def test_it_keeps_trying_and_is_never_failed_between_tries() -> None:
    assert values("Restart") == ["always"]
    assert values("RestartMode") == ["direct"]
    assert values("StartLimitIntervalSec") == ["0"]
    assert int(values("RestartMaxDelaySec")[0]) <= 600


def test_systemd_gives_the_container_time_to_stop() -> None:
    assert int(values("TimeoutStopSec")[0]) >= STOP_S + 20
    assert values("TimeoutStartSec") == ["infinity"]
    assert values("KillMode") == ["mixed"]
    assert values("ExecStopPost")[-1] == NAME


@pytest.mark.parametrize(
    "key",
    [
        "PrivateTmp", "PrivateMounts", "PrivateDevices", "ProtectSystem", "ProtectHome",
        "ProtectKernelModules", "ProtectKernelTunables", "ProtectKernelLogs", "ProtectClock",
        "ProtectControlGroups", "ReadOnlyPaths", "ReadWritePaths", "InaccessiblePaths",
        "BindPaths", "TemporaryFileSystem", "RootDirectory", "ProtectProc",
    ],
)  # fmt: skip
def test_its_mounts_are_the_hosts(key: str) -> None:
    """It mends Docker's store by mounting: dockerd must see that."""
    assert values(key) == []
