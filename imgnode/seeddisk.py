"""Finds the seed's partition and reads the files on it, no more of them than is allowed.

The CIDATA partition of the disk that the root lies on comes first: labels alone would be
ambiguous, since a second disk flashed with the same image carries the same ones. Where that
one holds no seed, any other file system labelled CIDATA will do, such as an attached drive.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from imgnode.problems import Problem
from imgnode.process import run
from imgnode.seed import LIMITS, NOT_READ, USER

_LABEL = "CIDATA"
_MOUNT = Path("run/imgnode/seed-mount")
_COMMAND_S = 60  # more would use up the time of imgnode-seed.service
_SETTLE_S = 10
_HINT = "imgbuild seed new writes an example"


@dataclass(frozen=True)
class Found:
    """The files of a seed and the device they come from; `problems` say why there are none."""

    device: str | None = None
    files: dict[str, bytes] = field(default_factory=dict)
    problems: tuple[Problem, ...] = ()


def find_seed(root: Path = Path("/")) -> Found:
    """Return the first seed there is. Never raises for what the disks hold."""
    problems: list[Problem] = []
    own = own_partitions(root)
    for device in _devices(own):
        files, problem = _read(device, root)
        if problem:
            problems.append(problem)
        elif USER in files:
            return Found(device, files)
    if not problems:
        where = f"{own[0]} holds no {USER}" if own else f"there is no partition {_LABEL}"
        problems.append(Problem("seed", where, _HINT))
    return Found(problems=tuple(problems))


def own_partitions(root: Path = Path("/")) -> list[str]:
    """Return the devices of the CIDATA partitions on the disk that holds the root.

    sysfs knows the partition's name in the partition table, and needs no udev for it.
    """
    number = root.stat().st_dev
    start = root / "sys/dev/block" / f"{os.major(number)}:{os.minor(number)}"
    found = set()
    for disk in _disks(start):
        for event in disk.glob("*/uevent"):
            facts = dict(line.partition("=")[::2] for line in _text(event).splitlines())
            if facts.get("PARTNAME", "").upper() == _LABEL and "DEVNAME" in facts:
                found.add(f"/dev/{facts['DEVNAME']}")
    return sorted(found)


def _disks(device: Path) -> set[Path]:
    """Return the disks below a block device: through verity and partition to the whole."""
    if not device.exists():
        return set()
    here = device.resolve()
    below = list((here / "slaves").iterdir()) if (here / "slaves").is_dir() else []
    if below:
        return {disk for one in below for disk in _disks(one)}
    return {here.parent if (here / "partition").exists() else here}


def _devices(own: list[str]) -> Iterator[str]:
    """Yield the devices that may hold the seed; others are only looked for when asked for."""
    yield from own
    run(["udevadm", "settle", f"--timeout={_SETTLE_S}"], timeout_s=_COMMAND_S)
    listed = run(["lsblk", "--json", "--list", "--paths", "-o", "NAME,LABEL"], timeout_s=_COMMAND_S)
    try:
        rows = json.loads(listed.stdout)["blockdevices"]
    except (ValueError, KeyError):
        return
    for row in sorted(rows, key=lambda row: str(row["name"])):
        if str(row.get("label")).upper() == _LABEL and row["name"] not in own:
            yield row["name"]


def _read(device: str, root: Path) -> tuple[dict[str, bytes], Problem | None]:
    """Mount a device, read the seed's files, unmount it."""
    place = root / _MOUNT
    place.mkdir(parents=True, exist_ok=True)
    options = ["-t", "vfat,iso9660", "-o", "ro,nosuid,nodev,noexec"]
    mounted = run(["mount", *options, device, str(place)], timeout_s=_COMMAND_S)
    if mounted.rc != 0:
        said = " ".join(mounted.stderr.split())[-200:]
        return {}, Problem("seed", f"{device} cannot be mounted: {said}", "write the seed anew")
    try:
        return read_files(place), None
    except OSError as error:
        fact = f"{device}: cannot be read: {error.strerror}"
        return {}, Problem("seed", fact, "write the seed anew")
    finally:
        run(["umount", "--lazy", str(place)], timeout_s=_COMMAND_S)


def read_files(folder: Path) -> dict[str, bytes]:
    """Return the seed's files in a folder: each to one byte over its limit. Raises OSError."""
    found = {}
    for name, limit in {**LIMITS, NOT_READ: 1}.items():
        try:
            handle = os.open(folder / name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        except FileNotFoundError:
            continue
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            os.close(handle)
            continue
        with os.fdopen(handle, "rb") as stream:
            found[name] = stream.read(limit + 1)
    return found


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""
