"""Opens layer files by dm-verity and mounts them; the kernel checks each block as it is read.

systemd-veritysetup@.service(8); the loop devices are libcryptsetup's own and go by themselves.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from imgnode import process
from imgnode.payload import LayerFile

MOUNTS = Path("run/imgnode/layers")
_VERITYSETUP = "/usr/lib/systemd/systemd-veritysetup"
_COMMAND_S = 60
_STATUS = re.compile(r"^(\S+): \d+ \d+ verity (\S+)", re.MULTILINE)
_DAMAGED = "C"  # the kernel's Documentation/admin-guide/device-mapper/verity.rst, Status


def place(root_hash: str, root: Path = Path("/")) -> Path:
    """Return the folder that a layer's or a model bundle's files are seen in."""
    return root / MOUNTS / root_hash


def device_name(file: LayerFile) -> str:
    """Return the name of a file's device-mapper device."""
    return f"imgnode-{file.root_hash[:16]}"


def mount_points(root: Path = Path("/")) -> frozenset[Path]:
    """Return all mount points as this process sees them (proc_pid_mountinfo(5))."""
    lines = (root / "proc/self/mountinfo").read_text(errors="replace").splitlines()
    return frozenset(Path(line.split()[4].replace("\\040", " ")) for line in lines)


def is_mounted(file: LayerFile, root: Path = Path("/")) -> bool:
    """Tell whether a file is mounted on its place."""
    return place(file.root_hash, root) in mount_points(root)


def verdicts() -> Mapping[str, bool]:
    """Return for each open verity device whether all that was read of it was right.

    Needs root; empty for others.
    """
    told = process.run(["dmsetup", "status", "--target", "verity"], timeout_s=_COMMAND_S)
    return {name: state != _DAMAGED for name, state in _STATUS.findall(told.stdout)}


def open_layer(file: LayerFile, path: Path, root: Path = Path("/")) -> str | None:
    """Open and mount a file; return what the tools said when they refused, else None."""
    name = device_name(file)
    options = f"superblock=yes,hash-offset={file.data_bytes}"
    argv = [_VERITYSETUP, "attach", name, str(path), str(path), file.root_hash, options]
    attached = process.run(argv, timeout_s=_COMMAND_S)
    if attached.rc != 0:
        return _said(attached)
    said = _mount(file, root)
    if said is not None:
        process.run([_VERITYSETUP, "detach", name], timeout_s=_COMMAND_S)
    return said


def close_layer(file: LayerFile, root: Path = Path("/")) -> str | None:
    """Unmount and close a file; return what was said when it is in use, and leave it mounted.

    An overlay holds a layer by itself: unmounting works then, and only closing is refused.
    """
    if is_mounted(file, root):
        said = _unmount(file, root)
        if said is not None:
            return said
    if device_name(file) not in verdicts():
        return None
    detached = process.run([_VERITYSETUP, "detach", device_name(file)], timeout_s=_COMMAND_S)
    if detached.rc == 0:
        return None
    _mount(file, root)
    return _said(detached)


def _mount(file: LayerFile, root: Path) -> str | None:
    where = place(file.root_hash, root)
    where.mkdir(parents=True, exist_ok=True)
    device = f"/dev/mapper/{device_name(file)}"
    argv = ["mount", "-t", "erofs", "-o", "ro,nodev", device, str(where)]
    mounted = process.run(argv, timeout_s=_COMMAND_S)
    return None if mounted.rc == 0 else _said(mounted)


def _unmount(file: LayerFile, root: Path) -> str | None:
    argv = ["umount", str(place(file.root_hash, root))]
    unmounted = process.run(argv, timeout_s=_COMMAND_S)
    return None if unmounted.rc == 0 else _said(unmounted)


def _said(finished: process.Finished) -> str:
    return " ".join(finished.stderr.split())[-200:] or f"exit code {finished.rc}"
