"""Whether modules, kernel, libraries and firmware of an image belong together."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from builder.core.errors import UserError
from builder.driver.locked import locked_driver, upstream
from builder.model.driver import Driver
from builder.model.lock import Lock
from builder.model.spec import Spec

# Libraries that talk to the modules, and are refused by any other version. Those of the container
# toolkit have versions of their own, such as 1.18.1.
_LIBRARY = re.compile(r"lib(cuda|nvidia-[a-z0-9-]+)\.so\.(?P<version>\d{3}(\.\d+)+)")
_LIBRARIES = "usr/lib/x86_64-linux-gnu"
_FIRMWARE = "usr/lib/firmware/nvidia/*/gsp*.bin"
_PROGRAMS = ("nvidia-smi",)  # packages whose files do not tell their version
_NEEDED = ("libcuda", "libnvidia-ml")


class Part(NamedTuple):
    """A piece of the user space, its version, and the package that brings it."""

    name: str
    version: str
    package: str


def check_fits(spec: Spec, lock: Lock, driver: Driver, base: Path) -> None:
    """Raise UserError when the driver's modules do not fit the installed root `base`.

    They must be built for its kernel, and have the version of its libraries and firmware.
    """
    _check_kernel(driver, base)
    source = locked_driver(spec, lock)
    origin = f"{source.name} {source.version}"
    told = f"image/drivers/{spec.site.gpu.driver}.yaml"
    found = user_space(lock, base)
    for name in _NEEDED:
        if not any(part.name.startswith(f"{name}.so") for part in found):
            raise UserError(
                f"the image has no {name}.so, without which no program reaches the GPUs",
                hint=f"add its package to {told}",
            )
    hint = (
        f"all packages of {told} must come from one version of the driver: pin them "
        "in the site, then lock anew"
    )
    for module in driver.facts.modules:
        if module.version not in ("", driver.facts.version):
            raise UserError(
                f"module {module.file} has version {module.version}, nvidia itself "
                f"{driver.facts.version}, both from {origin}",
                hint=hint,
            )
    for part in found:
        if part.version != driver.facts.version:
            raise UserError(
                f"the kernel modules have version {driver.facts.version} ({origin}), "
                f"{part.name} has {part.version} ({part.package}): they refuse each other",
                hint=hint,
            )


def user_space(lock: Lock, base: Path) -> list[Part]:
    """Return every library, firmware and program of the driver in the installed root."""
    files = [*_versioned_libraries(base), *_firmware(base)]
    owners = _owners(base, [path for path, _ in files])
    packages = {package.name: package.version for package in lock.tree("image")}
    found = []
    for path, version in files:
        owner = owners.get(path, "no package")
        found.append(Part(path.name, version, f"{owner} {packages.get(owner, '')}".strip()))
    programs = [name for name in _PROGRAMS if name in packages]
    return found + [
        Part(name, upstream(packages[name]), f"{name} {packages[name]}") for name in programs
    ]


def _check_kernel(driver: Driver, base: Path) -> None:
    releases = sorted(path.name for path in (base / "usr/lib/modules").iterdir())
    for module in driver.facts.modules:
        if [module.kernel] != releases:
            raise UserError(
                f"module {module.file} is built for kernel {module.kernel or 'unknown'} (its "
                f"vermagic), the image has {', '.join(releases) or 'none'} (/usr/lib/modules)",
                hint="lock anew, so that kernel and headers are of one version",
            )


def _versioned_libraries(base: Path) -> Iterable[tuple[Path, str]]:
    for path in sorted((base / _LIBRARIES).rglob("lib*.so.*")):
        match = _LIBRARY.fullmatch(path.name)
        if match and not path.is_symlink():
            yield path, match["version"]


def _firmware(base: Path) -> Iterable[tuple[Path, str]]:
    for path in sorted(base.glob(_FIRMWARE)):
        yield path, path.parent.name


def _owners(base: Path, paths: Iterable[Path]) -> dict[Path, str]:
    """Return the package of each path, by dpkg's lists of files; paths may go by /lib there."""
    wanted = {f"/{path.relative_to(base)}": path for path in paths}
    wanted |= {name.removeprefix("/usr"): path for name, path in wanted.items()}
    owners = {}
    for listing in (base / "var/lib/dpkg/info").glob("*.list"):
        for line in listing.read_text(errors="replace").splitlines():
            if line in wanted:
                owners[wanted[line]] = listing.stem.partition(":")[0]
    return owners
