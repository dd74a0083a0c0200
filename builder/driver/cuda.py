"""Whether a driver is new enough for the CUDA that a container was built with."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from builder.core.context import Context
from builder.core.errors import UserError
from builder.core.events import Note
from builder.model.cuda import LEAST_DRIVER, cuda_major
from builder.model.lock import Lock, LockedWheel
from builder.model.spec import Spec

_RUNTIME = re.compile(r"nvidia-cuda-runtime(-cu\d+)?")
_LOCAL = re.compile(r"\+cu(?P<major>\d{2})(?P<minor>\d)$")  # torch 2.9.0+cu128
_REQUIRED = re.compile(r"\bcuda>=(?P<version>\d+\.\d+)")
_LABEL = "com.nvidia.cuda.version"
_DRIVER = re.compile(r"driver(?P<sign>>=|<=|<|>|=)(?P<version>[\d.]+)")
_DATA_CENTRE = "tesla"  # NVIDIA's brand name of these GPUs


class Need(NamedTuple):
    """The CUDA version of a container, what says so, and its NVIDIA_REQUIRE_CUDA."""

    version: str
    source: str
    required: str = ""


def need_of_lock(lock: Lock) -> Need | None:
    """Return what a container made of locked wheels needs; None where no wheel says."""
    wheels = lock.container.wheels if lock.container else ()
    needs = sorted(_needs(wheels), key=_version)
    return needs[-1] if needs else None


def need_of_image(config: str) -> Need | None:
    """Return what an image says in its config (OCI image config, JSON); None: it is silent."""
    own = json.loads(config).get("config") or {}
    env = dict(line.partition("=")[::2] for line in own.get("Env") or ())
    required = env.get("NVIDIA_REQUIRE_CUDA", "")
    for source, version in _told(env, own.get("Labels") or {}):
        if version:
            return Need(version, source, required)
    return None


def check_cuda(context: Context, spec: Spec, driver: str, need: Need | None) -> None:
    """Raise UserError when the driver is too old for the container's CUDA.

    Within one major version any newer driver will do; across them only libraries that the
    container brings along help (forward compatibility), which the nvidia runtime picks.
    """
    if need is None or spec.profile.gpu is None:
        return
    least = LEAST_DRIVER.get(_numbers(need.version)[0])
    if least is None:
        text = f"CUDA {need.version} ({need.source}): no rule says which driver it needs"
        context.emit(Note("warning", text))
    elif _numbers(driver) < _numbers(least):
        _check_forward(context, spec, driver, need, least)


def _check_forward(context: Context, spec: Spec, driver: str, need: Need, least: str) -> None:
    if spec.site.gpu.runtime == "nvidia" and _forward(need.required, driver):
        text = f"CUDA {need.version} on driver {driver}: by the container's compatibility libraries"
        context.emit(Note("warning", f"{text}, and on data-centre GPUs only"))
        return
    major = cuda_major(driver)
    raise UserError(
        f"the container needs CUDA {need.version} ({need.source}), so a driver from {least} on; "
        f"the driver of site {spec.site_name} is {driver}, for CUDA up to {major}.x",
        hint=f"take a container for CUDA {major} (container of the profile), or a site with a "
        "newer driver",
    )


def _version(need: Need) -> tuple[int, ...]:
    return _numbers(need.version)


def _needs(wheels: Iterable[LockedWheel]) -> Iterable[Need]:
    for wheel in wheels:
        source = f"wheel {wheel.name} {wheel.version}"
        if _RUNTIME.fullmatch(wheel.name):
            yield Need(".".join(wheel.version.split(".")[:2]), source)
        elif match := _LOCAL.search(wheel.version):
            yield Need(f"{match['major']}.{match['minor']}", source)


def _told(env: Mapping[str, str], labels: Mapping[str, str]) -> Iterable[tuple[str, str]]:
    """Yield each place that may name the version, the most exact one first."""
    yield "CUDA_VERSION of the image", env.get("CUDA_VERSION", "")
    match = _REQUIRED.search(env.get("NVIDIA_REQUIRE_CUDA", ""))
    yield "NVIDIA_REQUIRE_CUDA of the image", match["version"] if match else ""
    yield f"label {_LABEL} of the image", labels.get(_LABEL, "")


def _forward(required: str, driver: str) -> bool:
    """Tell whether NVIDIA_REQUIRE_CUDA lets data-centre GPUs in with this driver.

    Words are alternatives, the conditions of a word hold together (nvidia-container-runtime,
    NVIDIA_REQUIRE_*).
    """
    for word in required.split():
        conditions = word.split(",")
        limits = [_DRIVER.fullmatch(one) for one in conditions if one.startswith("driver")]
        brand = f"brand={_DATA_CENTRE}" in conditions
        if brand and limits and all(one and _holds(driver, **one.groupdict()) for one in limits):
            return True
    return False


def _holds(driver: str, sign: str, version: str) -> bool:
    limit = _numbers(version)
    own = _numbers(driver)[: len(limit)]
    return {
        ">=": own >= limit,
        "<=": own <= limit,
        ">": own > limit,
        "<": own < limit,
        "=": own == limit,
    }[sign]


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version))
