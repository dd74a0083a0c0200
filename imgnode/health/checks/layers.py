"""The layer files of this version: mounted, and whole as far as the kernel has read them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from imgnode.health.contract import Finding, Level, Remedy
from imgnode.layers import mounts
from imgnode.payload import read_payload

NAME = "layers"
_UNIT = "imgnode-layers.service"


@dataclass(frozen=True)
class LayersCheck:
    """Whether container and models can be read. Not every byte: that is `layers verify`."""

    root: Path = Path("/")
    name: str = NAME
    every_s: float = 60.0

    def supported(self) -> bool:
        """Tell whether this version has layer files."""
        return bool(read_payload(self.root).files)

    def look(self, now: float) -> list[Finding]:  # noqa: ARG002 - nothing depends on time
        """Look once. Raises OSError or ValueError for a damaged image."""
        points, good = mounts.mount_points(self.root), mounts.verdicts()
        found = []
        for file in read_payload(self.root).files:
            label = f"layer file {file.root_hash[:12]}"
            evidence = {"root_hash": file.root_hash}
            if not good.get(mounts.device_name(file), True):
                fact, hint = f"{label} is damaged", "imgnode layers verify --repair"
                found.append(Finding(NAME, "corrupt", Level.FAILED, fact, hint, evidence=evidence))
            elif mounts.place(file.root_hash, self.root) not in points:
                fact, hint = f"{label} is not mounted", "imgnode layers status"
                bad = Finding(NAME, "missing", Level.FAILED, fact, hint, Remedy.UNIT, _UNIT)
                found.append(bad)
        return found
