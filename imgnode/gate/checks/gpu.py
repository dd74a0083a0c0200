"""The GPUs: those of the profile, and fit."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from imgnode.gate.attribution import GPU
from imgnode.gate.finding import Finding, Look
from imgnode.gpu import check


@dataclass(frozen=True)
class GpuCheck:
    """Whether the GPUs are as the profile says. A driver that is broken is the image's matter."""

    root: Path = Path("/")
    name: str = GPU
    limit_s: float = 0

    def look(self) -> Look:
        """Look once: up to a minute, since a driver may hang."""
        problems = check.run(self.root)
        return Look(tuple(Finding(GPU, check.whose(one), one.fact, one.hint) for one in problems))
