"""What a lock says of the driver, before anything is fetched: kernel, headers, version."""

from __future__ import annotations

import re

from builder.core.errors import UserError
from builder.model.lock import Lock, LockedPackage
from builder.model.spec import Spec

_KERNEL = re.compile(r"linux-image-(?P<release>[0-9].*?)(-unsigned)?")


def upstream(version: str) -> str:
    """Return a Debian version without epoch and revision (deb-version(7))."""
    version = version.partition(":")[2] or version
    return version.rpartition("-")[0] or version


def locked_release(lock: Lock) -> str:
    """Return the release (uname -r) of the lock's one kernel; raises UserError otherwise."""
    return _kernel(lock)[0]


def locked_driver(spec: Spec, lock: Lock) -> LockedPackage:
    """Return the package that the modules are built from; raises UserError without one."""
    if spec.driver is None or spec.profile.gpu is None:
        raise UserError(f"profile {spec.profile_name} has no GPU")
    names = spec.driver.modules[spec.profile.gpu.driver.modules]
    found = [package for package in lock.tree("driver") if package.name in names]
    if not found:
        raise UserError(
            f"the lock has no package {' or '.join(names)} to build the driver's modules from",
            hint=f"lock anew: imgbuild lock --profile {spec.profile_name}",
        )
    return found[0]


def check_locked(spec: Spec, lock: Lock) -> None:
    """Raise UserError when the lock's driver cannot be built, or is not what the profile asks."""
    if spec.driver is None or spec.profile.gpu is None:
        return
    _check_headers(spec, lock)
    package, wanted = locked_driver(spec, lock), spec.profile.gpu.driver.branch
    branch = upstream(package.version).partition(".")[0]
    if branch != wanted:
        origin = spec.origins.get("profile.gpu.driver.branch", "default")
        raise UserError(
            f"the driver of site {spec.site_name} is of branch {branch} ({package.name} "
            f"{package.version}), the profile wants {wanted} (gpu.driver.branch: {origin})",
            hint=f"set gpu.driver.branch: '{branch}' in the profile, or choose another site",
        )


def _check_headers(spec: Spec, lock: Lock) -> None:
    """Refuse headers of any but the very kernel: the same release, from the same source."""
    release, kernel = _kernel(lock)
    name = f"linux-headers-{release}"
    headers = {p.name: p.version for p in lock.tree("driver") if p.name.startswith("linux-headers")}
    found = headers.get(name)
    if found == kernel.version:
        return
    told = f"{name} {found}" if found else ", ".join(f"{n} {v}" for n, v in headers.items())
    meta = spec.profile.kernel.package.replace("linux-image", "linux-headers", 1)
    raise UserError(
        f"modules for the image's kernel ({kernel.name} {kernel.version}) cannot be built with "
        f"{told or 'no headers at all'} (image/drivers/{spec.site.gpu.driver}.yaml: headers)",
        hint=f"take both from the same archives: kernel.package of the profile is "
        f"{spec.profile.kernel.package}, its headers are {meta}",
    )


def _kernel(lock: Lock) -> tuple[str, LockedPackage]:
    found = [
        (match["release"], package)
        for package in lock.tree("image")
        if (match := _KERNEL.fullmatch(package.name))
    ]
    if len(found) != 1:
        names = ", ".join(package.name for _, package in found) or "none"
        raise UserError(
            f"the lock has {len(found)} kernels for the image: {names}",
            hint="let exactly one package of the profile bring a kernel",
        )
    return found[0]
