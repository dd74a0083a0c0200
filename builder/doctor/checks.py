"""What a build host must have; each check says what it found and how to mend it.

A check is one small function from a context to a `Finding`.
"""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from builder.core.context import Context
from builder.core.errors import UserError
from builder.core.mounts import overlay
from builder.core.process import CommandError

State = Literal["ok", "warning", "missing"]
_GIB = 1 << 30
_DISK_GIB = 8
_MEMORY_GIB = 2
# Program → the Debian package that brings it.
_PROGRAMS = {
    "apt-ftparchive": "apt-utils",
    "bwrap": "bubblewrap",
    "gpg": "gnupg",
    "gpgv": "gpgv",
    "mcopy": "mtools",
    "mkfs.vfat": "dosfstools",
    "mmdebstrap": "mmdebstrap",
    "qemu-system-x86_64": "qemu-system-x86",
    "setpriv": "util-linux",
    "sfdisk": "fdisk",
    "ssh": "openssh-client",
    "zstd": "zstd",
}
_FILES = {
    "/usr/share/OVMF/OVMF_CODE_4M.fd": "ovmf",
    "/usr/share/keyrings/debian-archive-keyring.gpg": "debian-archive-keyring",
}
_VERSIONS = {"mmdebstrap": (("mmdebstrap", "--version"), (1, 3))}


@dataclass(frozen=True)
class Finding:
    """What one check found; `hint` says how to mend it, empty where nothing is to be done."""

    name: str
    state: State
    found: str
    hint: str = ""


Check = Callable[[Context], Finding]


def checks() -> tuple[Check, ...]:
    """Return every check of the host, in the order in which they are shown."""
    return (_host, _root, _programs, _versions, _files, _disk, _memory, _mounts)


def _host(_: Context) -> Finding:
    machine = f"{platform.system()} {platform.machine()}"
    if machine != "Linux x86_64":
        return Finding("host", "missing", machine, "build on x86-64 Linux")
    release = platform.freedesktop_os_release()
    name = release.get("PRETTY_NAME", "unknown Linux")
    if (release.get("ID"), release.get("VERSION_ID")) != ("debian", "12"):
        return Finding("host", "warning", name, "tried on Debian 12 only")
    return Finding("host", "ok", name)


def _root(_: Context) -> Finding:
    if os.geteuid() == 0:
        return Finding("root", "ok", "yes")
    return Finding("root", "missing", f"uid {os.geteuid()}", "run imgbuild with sudo")


def _programs(_: Context) -> Finding:
    missing = {name: package for name, package in _PROGRAMS.items() if not shutil.which(name)}
    if missing:
        packages = " ".join(sorted(set(missing.values())))
        found = f"without {', '.join(sorted(missing))}"
        return Finding("programs", "missing", found, f"apt-get install {packages}")
    return Finding("programs", "ok", f"all {len(_PROGRAMS)}")


def _versions(context: Context) -> Finding:
    found = []
    for name, (argv, least) in _VERSIONS.items():
        try:
            words = context.runner.run(argv, timeout_s=10).stdout.split()
        except CommandError as error:
            return Finding("versions", "missing", str(error), f"apt-get install {_PROGRAMS[name]}")
        numbers = tuple(int(part) for part in words[-1].split(".") if part.isdigit())
        found.append(f"{name} {words[-1]}")
        if numbers < least:
            wanted = ".".join(map(str, least))
            return Finding("versions", "missing", found[-1], f"{name} {wanted} or newer is needed")
    return Finding("versions", "ok", ", ".join(found))


def _files(_: Context) -> Finding:
    missing = {path: package for path, package in _FILES.items() if not Path(path).exists()}
    if missing:
        packages = " ".join(sorted(set(missing.values())))
        return Finding(
            "files", "missing", f"without {', '.join(missing)}", f"apt-get install {packages}"
        )
    return Finding("files", "ok", "firmware, Debian's keys")


def _disk(context: Context) -> Finding:
    folder = context.project.cache
    folder.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(folder).free / _GIB
    found = f"{free:.0f} GiB free in {folder}"
    if free < _DISK_GIB:
        hint = f"a build needs {_DISK_GIB} GiB: imgbuild cache prune, or set IMGBUILD_CACHE"
        return Finding("disk", "missing", found, hint)
    return Finding("disk", "ok", found)


def _memory(_: Context) -> Finding:
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / _GIB
    if total < _MEMORY_GIB:
        hint = f"a build needs 1 GiB, a virtual machine {_MEMORY_GIB} GiB more"
        return Finding("memory", "warning", f"{total:.1f} GiB", hint)
    return Finding("memory", "ok", f"{total:.0f} GiB")


def _mounts(context: Context) -> Finding:
    """Mount an overlay for real, in a workspace that goes away."""
    try:
        with context.cache.workspace("doctor") as work:
            lower = work / "lower"
            lower.mkdir()
            with overlay(context.runner, lower, work) as merged:
                (merged / "probe").touch()
    except (UserError, OSError) as error:
        hint = "run as root; in a container, give it CAP_SYS_ADMIN"
        return Finding("mounts", "missing", str(error).splitlines()[-1].strip(), hint)
    return Finding("mounts", "ok", "private overlay works")
