"""Whether the kernel holds the AppArmor profile of the container."""

from __future__ import annotations

from pathlib import Path

PROFILE = "imgnode-vllm"  # overlays/container/etc/apparmor.d
_LOADED = Path("sys/kernel/security/apparmor/profiles")


def profile(root: Path = Path("/")) -> str | None:
    """Return the name of the profile; None where the kernel does not hold it, or may not say.

    Naming one that is not loaded would keep the container from starting.
    """
    try:
        lines = (root / _LOADED).read_text().splitlines()
    except OSError:
        return None
    return PROFILE if f"{PROFILE} (enforce)" in lines else None
