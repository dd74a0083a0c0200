"""Locks, modules and installed roots of nodes with GPUs, for the tests of the driver."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from builder.model.container import Payload
from builder.model.driver import Driver, DriverFacts, DriverModule, DriverRecipe
from builder.model.lock import Lock, LockedContainer, LockedPackage, LockedWheel
from builder.model.profile import Gpu
from builder.model.spec import Spec
from tests.unit.fakes import lock, package, site, spec
from tests.unit.images import container

VERSION = "535.309.01"
RELEASE = "6.1.0-56-amd64"
KERNEL = "6.1.192-2"
DRIVER = f"{VERSION}-0+deb12u1"
RECIPE = DriverRecipe(
    description="a driver",
    packages=("libcuda1", "nvidia-smi"),
    modules={"proprietary": ("nvidia-kernel-dkms",)},
)
LIBRARIES = Path("usr/lib/x86_64-linux-gnu/nvidia/current")


def gpu_spec(gpu: dict[str, Any] | None = None, **changes: Any) -> Spec:  # noqa: ANN401
    """Return the specification of a node with GPUs; `gpu` changes keys of the profile's."""
    profile = spec().profile.model_copy(
        update={"gpu": Gpu.model_validate({"model": "A100-SXM4-80GB", **(gpu or {})})}
    )
    return spec(**{"profile": profile, "driver": RECIPE, "site": site(), **changes})


def locked(
    name: str,
    version: str,
    tree: str,
    **changes: Any,  # noqa: ANN401
) -> LockedPackage:
    return package(name, version=version, trees=(tree,), **changes)


def gpu_lock(*more: LockedPackage, without: tuple[str, ...] = (), **changes: Any) -> Lock:  # noqa: ANN401
    """Return a lock that fits; `more` replaces packages of the same name."""
    usual = [
        locked(f"linux-image-{RELEASE}", KERNEL, "image"),
        locked("libcuda1", DRIVER, "image"),
        locked("nvidia-smi", DRIVER, "image"),
        locked(f"linux-headers-{RELEASE}", KERNEL, "driver"),
        locked("nvidia-kernel-dkms", DRIVER, "driver"),
    ]
    gone = {*without, *(one.name for one in more)}
    kept = [one for one in usual if one.name not in gone]
    return lock(*kept, *more).model_copy(update=changes)


def module(name: str = "nvidia", **changes: Any) -> DriverModule:  # noqa: ANN401
    values = {
        "name": name,
        "file": name.replace("nvidia", "nvidia-current", 1) + ".ko",
        "bytes": 7,
        "version": VERSION,
        "kernel": RELEASE,
    }
    return DriverModule.model_validate({**values, **changes})


def driver(*modules: DriverModule, tree: Path = Path("/tree")) -> Driver:
    found = modules or (module(), module("nvidia-uvm"))
    facts = DriverFacts(version=VERSION, kind="proprietary", modules=found)
    return Driver(tree=tree, key="0" * 64, facts=facts)


def installed(base: Path, version: str = VERSION, *, firmware: str = VERSION) -> Path:
    """Fill `base` with what a root with the driver's user space has."""
    (base / "usr/lib/modules" / RELEASE).mkdir(parents=True)
    folder = base / LIBRARIES
    folder.mkdir(parents=True)
    info = base / "var/lib/dpkg/info"
    info.mkdir(parents=True)
    for name, package_name in (("libcuda", "libcuda1"), ("libnvidia-ml", "libnvidia-ml1")):
        library = folder / f"{name}.so.{version}"
        library.write_text(name)
        (folder / f"{name}.so.1").symlink_to(library.name)
        (info / f"{package_name}:amd64.list").write_text(f"/.\n/{LIBRARIES / library.name}\n")
    (folder / "libcuda.so").symlink_to("libcuda.so.1")
    (folder / "libnvidia-container.so.1.18.1").write_text("of the toolkit")
    gsp = base / "usr/lib/firmware/nvidia" / firmware
    gsp.mkdir(parents=True)
    (gsp / "gsp_ga10x.bin").write_text("gsp")
    listed = f"/lib/firmware/nvidia/{firmware}/gsp_ga10x.bin\n"  # as Debian's package has it
    (info / "firmware-nvidia-gsp.list").write_text(listed)
    return base


def of_wheels(*wheels: tuple[str, str]) -> LockedContainer:
    """Return a locked container of wheels, by name and version."""
    found = [
        LockedWheel(name=name, version=version, file_name=f"{name}.whl", sha256="0" * 64)
        for name, version in wheels
    ]
    return LockedContainer(source="recipe:vllm-cuda", wheels=tuple(found))


def with_config(config: str) -> Payload:
    """Return the payload of a container with this config."""
    return Payload(container=container().model_copy(update={"config": config}))
