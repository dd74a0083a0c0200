"""What imgnode-gate.service must keep to, whatever else changes in it."""

from __future__ import annotations

from pathlib import Path

import pytest

from imgnode.gate import quarantine
from imgnode.gate.run import _SIGN_OF_LIFE

ROOT = Path(__file__).parents[2]


def pairs(name: str) -> list[list[str]]:
    lines = (ROOT / "units/system" / name).read_text().splitlines()
    return [line.split("=", 1) for line in lines if "=" in line and line[0] != "#"]


def values(key: str, name: str = "imgnode-gate.service") -> list[str]:
    return [word for known, value in pairs(name) if known == key for word in value.split()]


def test_a_version_is_good_only_after_it_and_no_login_waits_for_it() -> None:
    """boot-complete.target in systemd.special(7): RequiredBy= and Before= by the unit."""
    assert values("RequiredBy") == ["boot-complete.target"]
    assert values("Before") == ["boot-complete.target", "shutdown.target"]
    assert values("DefaultDependencies") == ["no"]
    assert {"getty.target", "ssh.service", "cloud-init.service"} <= set(values("After"))
    assert values("WantedBy") == ["multi-user.target"]  # at boots of a good version, too


def test_it_alone_decides() -> None:
    preset = (ROOT / "units/system-preset/00-imgnode.preset").read_text().splitlines()
    assert "enable imgnode-gate.service" in preset
    assert not any("check-no-failures" in line for line in preset)


def test_a_check_that_hangs_ends_it() -> None:
    assert values("Type") == ["oneshot"]
    assert values("NotifyAccess") == ["main"]
    assert values("TimeoutStartSec") == ["10min"]
    assert f"EXTEND_TIMEOUT_USEC={10 * 60 * 1_000_000}" == _SIGN_OF_LIFE


def test_quarantine_keeps_the_service_from_starting() -> None:
    wanted = [f"!/{quarantine.FILE}", f"!/{quarantine.LASTING}"]
    assert values("ConditionPathExists", "vllm.service") == wanted


@pytest.mark.parametrize("key", ["Requires", "BindsTo", "PartOf", "Requisite"])
def test_nothing_that_is_judged_takes_it_along(key: str) -> None:
    assert set(values(key)) <= {"sysinit.target"}


def test_what_it_tells_is_above_the_login_prompt() -> None:
    link = ROOT / "overlays/base/etc/issue.d/60-imgnode-gate.issue"
    assert link.readlink() == Path("/run/imgnode/gate.issue")
