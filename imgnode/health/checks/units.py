"""systemd's units: none failed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from imgnode.gate import systemd
from imgnode.health.contract import Finding, Level, Remedy

NAME = "units"
# Other checks judge these by what they do, or they are ourselves.
_OTHERS = frozenset(
    {"containerd.service", "docker.service", "docker.socket", "vllm.service"}
    | {"imgnode-health.service", "imgnode-layers.service"}
)
# Without these nobody reaches the node, or sees what it does.
_NEEDED = frozenset(
    {"dbus.service", "ssh.service", "systemd-journald.service", "systemd-logind.service"}
    | {"systemd-networkd.service", "systemd-resolved.service", "systemd-udevd.service"}
)


@dataclass(frozen=True)
class UnitsCheck:
    """Whether what should run runs. What runs once and failed is not run again by itself."""

    root: Path = Path("/")
    name: str = NAME
    every_s: float = 60.0

    def supported(self) -> bool:
        """Every node has systemd."""
        return True

    def look(self, now: float) -> list[Finding]:  # noqa: ARG002 - nothing depends on time
        """Look once. Raises OSError when systemd does not answer."""
        return [_failed(one) for one in systemd.failed_units() if one not in _OTHERS]


def _failed(unit: str) -> Finding:
    level = Level.FAILED if unit in _NEEDED else Level.WARNING
    once = systemd.properties(unit, "Type")["Type"] in ("", "oneshot")
    remedy = Remedy.NONE if once else Remedy.UNIT
    hint = f"systemctl status {unit}; journalctl -b -u {unit}"
    fact = f"{unit} failed"
    return Finding(NAME, "failed", level, fact, hint, remedy, unit, evidence={"unit": unit})
