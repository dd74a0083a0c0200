"""What the image's profile says about the GPUs of this node."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_FACTS = Path("usr/lib/imgnode/image.json")


@dataclass(frozen=True)
class MigLayout:
    """How each GPU is split: so many instances of one profile, such as 3g.40gb."""

    profile: str
    count: int


@dataclass(frozen=True)
class GpuProfile:
    """The profile's `gpu:` (builder/model/profile.py), as far as a node acts on it.

    `count` is None where any number will do; `memory` in bytes, None where it is not known.
    `driver_version` is what was built into the image, None where the image does not say.
    """

    model: str
    names: tuple[str, ...] = ("*",)
    count: int | None = None
    memory: int | None = None
    nvlink: bool = False
    fabric_manager: bool = False
    mig: MigLayout | None = None
    persistence: bool = True
    power_limit_w: int | None = None
    ecc: bool | None = None
    driver_version: str | None = None


def read_profile(root: Path = Path("/")) -> GpuProfile | None:
    """Return what the image says, None where it is for nodes without GPUs.

    Raises OSError, or ValueError where the image's file cannot be understood.
    """
    values = json.loads((root / _FACTS).read_text())
    try:
        gpu = values.get("gpu")
        return _profile(gpu, values.get("driver_version")) if gpu else None
    except (AttributeError, KeyError, TypeError) as error:
        raise ValueError(f"{_FACTS}: cannot be understood: {error}") from error


def _profile(gpu: dict[str, Any], driver_version: str | None) -> GpuProfile:
    mig = gpu["mig"]
    return GpuProfile(
        model=gpu["model"],
        names=tuple(gpu["names"]),
        count=gpu["count"],
        memory=gpu["memory"],
        nvlink=gpu["nvlink"],
        fabric_manager=gpu["fabric_manager"],
        mig=MigLayout(mig["profile"], mig["count"]) if mig else None,
        persistence=gpu["persistence"],
        power_limit_w=gpu["power_limit_w"],
        ecc=gpu["ecc"],
        driver_version=driver_version,
    )
