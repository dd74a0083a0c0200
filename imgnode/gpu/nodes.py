"""Device files of the GPUs, and their links in /dev/char.

Nothing makes these files by itself but NVIDIA's own libraries, when they first run as root; a
container needs them before. systemd finds a device that a container may use by /dev/char: without
the link a `systemctl daemon-reload` takes the GPU away from a running container
(github.com/NVIDIA/nvidia-container-toolkit, issues 48 and 1227).
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path

from imgnode.process import run

_PROC = Path("proc/driver/nvidia")
_CONTROL = 255  # the minor of /dev/nvidiactl
_LIMIT_S = 60


def make(root: Path = Path("/")) -> list[str]:
    """Load the modules and make the device files of GPUs and memory; return what failed."""
    failed = _modprobe(["-c", str(_CONTROL)]) or _modprobe(_each("-c", _minors(root)))
    return [*failed, *(_modprobe(["-u", "-c", "0"]) if not failed else [])]


def make_caps(root: Path = Path("/")) -> list[str]:
    """Make the device files of all MIG instances that there are; return what failed."""
    found = sorted((root / _PROC / "capabilities").rglob("mig/**/access"))
    return _modprobe(_each("-f", (f"/{one.relative_to(root)}" for one in found)))


def link(root: Path = Path("/")) -> list[str]:
    """Link each device file of the driver in /dev/char (udev's own form); return what was new."""
    dev, made = root / "dev", []
    for node in sorted([*dev.glob("nvidia*"), *dev.glob("nvidia-caps/*")]):
        facts = node.stat()
        if not stat.S_ISCHR(facts.st_mode):
            continue
        name = f"{os.major(facts.st_rdev)}:{os.minor(facts.st_rdev)}"
        place = dev / "char" / name
        if not place.is_symlink():
            place.parent.mkdir(exist_ok=True)
            place.symlink_to(Path("..") / node.relative_to(dev))
            made.append(name)
    return made


def cap_files(minor: int, gi: int, ci: int, root: Path = Path("/")) -> tuple[str, ...]:
    """Return the device files that open one MIG device, such as /dev/nvidia-caps/nvidia-cap12.

    `minor` is that of the GPU. Nothing where the driver does not list the instance
    (/proc/driver/nvidia-caps/mig-minors).
    """
    try:
        text = (root / "proc/driver/nvidia-caps/mig-minors").read_text()
    except OSError:
        return ()
    minors = dict(line.rsplit(" ", 1) for line in text.splitlines() if " " in line)
    names = (f"gpu{minor}/gi{gi}/access", f"gpu{minor}/gi{gi}/ci{ci}/access")
    return tuple(f"/dev/nvidia-caps/nvidia-cap{minors[one]}" for one in names if one in minors)


def _minors(root: Path) -> Iterator[str]:
    for facts in sorted((root / _PROC / "gpus").glob("*/information")):
        match = re.search(r"^Device Minor:\s*(\d+)$", facts.read_text(), re.MULTILINE)
        if match:
            yield match[1]


def _each(option: str, values: Iterator[str]) -> list[str]:
    return [word for value in values for word in (option, value)]


def _modprobe(options: list[str]) -> list[str]:
    """Call nvidia-modprobe(1), which leaves alone what is there."""
    if not options:
        return []
    done = run(["nvidia-modprobe", *options], timeout_s=_LIMIT_S)
    if done.rc == 0:
        return []
    words = (done.stderr or done.stdout).strip() or f"ended with {done.rc}"
    return [f"nvidia-modprobe {' '.join(options)}: {words}"]
