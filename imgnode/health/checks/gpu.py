"""The GPUs: what the driver says of them, and whether it answers at all."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from imgnode.gpu import check
from imgnode.gpu.compare import key_of
from imgnode.gpu.profile import read_profile
from imgnode.health.contract import Finding, Level, Remedy
from imgnode.problems import Problem

NAME = "gpu"
_FABRIC = "nvidia-fabricmanager.service"
# By the keys of imgnode/gpu/compare.py. Of the others some are the image's, some want a person.
_REMEDY: Mapping[str, Remedy] = {
    "hang": Remedy.REBOOT,
    "nvml": Remedy.REBOOT,
    "count": Remedy.REBOOT,
    "lost": Remedy.REBOOT,
    "nvlink": Remedy.GPU_RESET,
    "ecc_errors": Remedy.GPU_RESET,
    "fabric_manager": Remedy.UNIT,
    "rows_failed": Remedy.QUARANTINE,
}


@dataclass(frozen=True)
class GpuCheck:
    """Whether the GPUs are fit, as `imgnode gpu check` judges them."""

    root: Path = Path("/")
    name: str = NAME
    every_s: float = 120.0  # each look costs a child with NVIDIA's library

    def supported(self) -> bool:
        """Tell whether the image is for GPUs."""
        return read_profile(self.root) is not None

    def look(self, now: float) -> list[Finding]:  # noqa: ARG002 - nothing depends on time
        """Look once: up to a minute, since the driver may hang; a child asks it."""
        report = check.look(self.root)
        faults = [_finding(one, Level.FAILED) for one in report.faults]
        return [*faults, *(_finding(one, Level.WARNING) for one in report.warnings)]


def _finding(problem: Problem, level: Level) -> Finding:
    key = key_of(problem)
    middle = problem.key.split(".")[1:-1]
    gpus = tuple(int(word) for word in middle if word.isdigit())
    unit = _FABRIC if key == "fabric_manager" else None
    remedy = _REMEDY.get(key, Remedy.NONE)
    return Finding(NAME, key, level, problem.fact, problem.hint, remedy, unit, gpus)
