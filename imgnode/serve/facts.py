"""What the image says about serving, and what machine it runs on."""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_FACTS = Path("usr/lib/imgnode/image.json")
DEVICES, NVIDIA = "devices", "nvidia"  # builder/model/site.py, GpuSource


@dataclass(frozen=True)
class ServeFacts:
    """The profile's `serve:` (builder/model/profile.py); shm in bytes."""

    port: int
    memory_percent: int
    cpus_reserved: int
    shm: int
    pids: int
    start_timeout_s: int
    args: dict[str, bool | int | float | str]
    env: dict[str, str]


@dataclass(frozen=True)
class GpuFacts:
    """How GPUs reach the container: DEVICES or NVIDIA; `instances` by MIG on each, 0: not split."""

    runtime: str
    instances: int = 0


@dataclass(frozen=True)
class Facts:
    """`gpus` is how many the profile says, None: as many as there are.

    `gpu` is None where the profile has none. `models` is the mirror's address without a slash at
    its end, None where there is none.
    """

    gpus: int | None
    serve: ServeFacts
    models: str | None
    gpu: GpuFacts | None = None


@dataclass(frozen=True)
class Machine:
    """What the container shares: memory in bytes, processors."""

    memory: int
    cpus: int


def read_facts(root: Path = Path("/")) -> Facts:
    """Return the image's facts. Raises OSError, or ValueError where they cannot be understood."""
    values = json.loads((root / _FACTS).read_text())
    try:
        mirror = values.get("models")
        serve = ServeFacts(**values["serve"])
        mirror = mirror.rstrip("/") if mirror else None
        return Facts(values["gpus"], serve, mirror, _gpu(values))
    except (AttributeError, KeyError, TypeError) as error:
        raise ValueError(f"{_FACTS}: cannot be understood: {error}") from error


def _gpu(values: dict[str, Any]) -> GpuFacts | None:
    gpu = values.get("gpu")
    if gpu is None:
        return None
    mig = gpu["mig"]
    return GpuFacts(values["gpu_runtime"], mig["count"] if mig else 0)


def read_machine(root: Path = Path("/")) -> Machine:
    """Return the machine's size (proc_meminfo(5)). Raises OSError or ValueError."""
    match = re.search(r"^MemTotal:\s+(\d+) kB$", (root / "proc/meminfo").read_text(), re.MULTILINE)
    if match is None:
        raise ValueError("proc/meminfo: no MemTotal")
    return Machine(int(match[1]) * 1024, os.cpu_count() or 1)


def read_json(path: Path) -> dict[str, Any] | None:
    """Return the object in a state file; None where it is not there or damaged."""
    try:
        value = json.loads(path.read_text())
    except (OSError, ValueError):
        return None
    return value if isinstance(value, dict) else None
