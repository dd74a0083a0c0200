"""The GPU driver in the root: its modules, and what a container needs of its user space."""

from __future__ import annotations

import re
from pathlib import Path

from builder.core.files import copy_own
from builder.core.sandbox import Sandbox
from builder.model.driver import Driver

SHARED = "usr/lib/imgnode/gpu"  # a node mounts lib64/ and bin/ of it into the container
_LIBRARIES = "usr/lib/x86_64-linux-gnu"
# By the driver's version: libraries of the container toolkit have smaller ones, such as 1.18.1.
_LIBRARY = re.compile(r"lib(cuda|cudadebugger|nvidia-[a-z0-9-]+)\.so\.[0-9]{3}(\.[0-9]+)+")
_PROGRAMS = ("nvidia-smi",)
_PROGRAM_FOLDERS = ("usr/lib/nvidia/current", "usr/bin")  # Debian's, NVIDIA's own packages'


def lay_driver(tools: Sandbox, driver: Driver, root: Path) -> None:
    """Lay the driver's modules over the root, index them, and set up the shared folder."""
    copy_own(driver.tree, root)
    for release in sorted(path.name for path in (root / "usr/lib/modules").iterdir()):
        tools.run(["depmod", "--basedir", root, release], write=[root])
    share_user_space(root)


def share_user_space(root: Path) -> None:
    """Give the driver's libraries and programs a second name in one folder, by hard links.

    EROFS keeps hard links, so the folder takes no space. Links like libcuda.so.1 point to
    files beside them, wherever the folder is mounted.
    """
    folder, programs = root / SHARED / "lib64", root / SHARED / "bin"
    for each in (folder, programs):
        each.mkdir(parents=True, exist_ok=True)
    for library in sorted((root / _LIBRARIES).rglob("lib*.so.*")):
        if library.is_symlink() or not _LIBRARY.fullmatch(library.name):
            continue
        (folder / library.name).hardlink_to(library)
        for link in _links_to(library):
            (folder / link).symlink_to(library.name)
    for name in _PROGRAMS:
        found = [root / place / name for place in _PROGRAM_FOLDERS]
        for program in [path for path in found if path.is_file() and not path.is_symlink()][:1]:
            (programs / name).hardlink_to(program)


def _links_to(library: Path) -> list[str]:
    """Return the names of the links beside a library that lead to it, directly or not."""
    targets = {
        path.name: str(path.readlink()) for path in library.parent.iterdir() if path.is_symlink()
    }
    names = {library.name}
    while more := {name for name, target in targets.items() if target in names} - names:
        names |= more
    return sorted(names - {library.name})
