"""The container is put under its AppArmor profile where the kernel holds it."""

from __future__ import annotations

from pathlib import Path

import pytest

from imgnode.serve.confine import PROFILE, profile

ROOT = Path(__file__).parents[2]
LOADED = "sys/kernel/security/apparmor/profiles"


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("docker-default (enforce)\nimgnode-vllm (enforce)\n", PROFILE),
        ("docker-default (enforce)\n", None),
        ("imgnode-vllm (complain)\n", None),
        ("imgnode-vllm-other (enforce)\n", None),
        ("", None),
    ],
)
def test_the_kernel_says_whether_it_holds_the_profile(
    tmp_path: Path, text: str, found: str | None
) -> None:
    (tmp_path / LOADED).parent.mkdir(parents=True)
    (tmp_path / LOADED).write_text(text)
    assert profile(tmp_path) == found


def test_a_kernel_without_apparmor_has_none(tmp_path: Path) -> None:
    assert profile(tmp_path) is None


def test_the_overlay_has_the_profile_by_its_name() -> None:
    text = (ROOT / f"overlays/container/etc/apparmor.d/{PROFILE}").read_text()
    assert f"\nprofile {PROFILE} flags=" in text
    for rule in ("deny mount,", "deny capability,", "deny /proc/sys/** wkl,"):
        assert f"  {rule}\n" in text
    assert "network inet raw" not in text
    assert "network packet" not in text
    unit = (ROOT / "units/system/imgnode-apparmor.service").read_text()
    assert f"/etc/apparmor.d/{PROFILE}" in unit
    assert "Before=docker.service vllm.service" in unit
