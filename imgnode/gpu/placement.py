"""Which GPUs a server takes, and which processors and memory lie next to them. Pure.

Tensor parallelism sends much between all GPUs of a group, so a group is chosen for its NVLinks,
then for one memory node, then by index.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

from imgnode.gpu import nodes
from imgnode.gpu.check import read
from imgnode.gpu.inventory import SWITCH, Device, Inventory, MigDevice, from_dict
from imgnode.gpu.profile import read_profile

_SEARCHED = 16  # more GPUs than any board has: there are too many groups to compare


@dataclass(frozen=True)
class Placement:
    """GPUs by index, in the order in which the server sees them.

    `cpus` and `nodes` are lists as cpuset(7) writes them; None leaves the choice to the kernel.
    `uuids` are what CUDA_VISIBLE_DEVICES names, in the same order: GPUs, or MIG devices. `files`
    are the device files of these GPUs alone, without /dev/nvidiactl and /dev/nvidia-uvm.
    """

    gpus: tuple[int, ...]
    cpus: str | None = None
    nodes: str | None = None
    uuids: tuple[str, ...] = ()
    files: tuple[str, ...] = ()


class NoPlace(Exception):
    """There are not as many GPUs as are asked for; the text says what there is."""


def choose(root: Path, tensor: int, pipeline: int = 1) -> Placement:
    """Place a server on the GPUs that were last looked at (`imgnode-gpu.service`).

    Raises NoPlace, also where nobody has looked yet; OSError or ValueError where the image's own
    files cannot be read.
    """
    told = read(root)
    if told is None:
        raise NoPlace("nobody has looked at the GPUs: systemctl status imgnode-gpu")
    profile = read_profile(root)
    found = from_dict(told["inventory"])
    if profile is not None and profile.mig is not None:
        return place_mig(found, tensor * pipeline, root)
    return place(found, tensor, pipeline)


def place(found: Inventory, tensor: int, pipeline: int = 1) -> Placement:
    """Place `pipeline` groups of `tensor` GPUs, each group together. Raises NoPlace.

    Processors and memory are chosen only where GPUs are left over: a server that has all GPUs
    may use the whole machine, also the processors that lie next to none.
    """
    free = list(found.usable)
    if len(free) < tensor * pipeline:
        raise NoPlace(f"{tensor * pipeline} GPUs are asked for, {len(free)} answer")
    chosen: list[Device] = []
    for _ in range(pipeline):
        group = _best(free, tensor)
        chosen += group
        free = [one for one in free if one not in group]
    uuids = tuple(one.uuid or str(one.index) for one in chosen)
    return _placement(chosen, uuids, _files(chosen), whole=not free)


def place_mig(found: Inventory, count: int, root: Path = Path("/")) -> Placement:
    """Place a server on a MIG device, the first one. Raises NoPlace for more than one.

    MIG devices cannot speak with each other (MIG User Guide: no peer-to-peer). `root` is where
    /proc names their device files.
    """
    if count > 1:
        raise NoPlace("a model cannot be spread over MIG devices: tensor_parallel_size must be 1")
    for device in found.usable:
        for one in device.mig_devices:
            return _placement([device], (one.uuid,), _mig_files(device, one, root), whole=False)
    raise NoPlace("there is no MIG device: imgnode gpu show")


def _best(free: Sequence[Device], count: int) -> list[Device]:
    """Return the best group, lowest indexes first among equals."""
    if len(free) > _SEARCHED:
        return list(free[:count])
    return list(max(combinations(free, count), key=_worth))


def _worth(group: Iterable[Device]) -> tuple[int, int, int]:
    """Return how good a group is: its weakest pair, all its links, how few memory nodes it has."""
    links = [_links(one, other) for one, other in combinations(group, 2)] or [0]
    return (min(links), sum(links), -len({one.numa_node for one in group}))


def _links(one: Device, other: Device) -> int:
    """Return how many active links join two GPUs; switches join all with all."""
    direct = sum(link.active and link.remote == other.address for link in one.links)
    return direct or min(_to_switches(one), _to_switches(other))


def _to_switches(device: Device) -> int:
    return sum(link.active and link.remote == SWITCH for link in device.links)


def _placement(
    chosen: Sequence[Device], uuids: tuple[str, ...], files: tuple[str, ...], *, whole: bool
) -> Placement:
    near = {(one.numa_node, one.cpus) for one in chosen}
    known = not whole and all(node is not None and cpus for node, cpus in near)
    return Placement(
        gpus=tuple(one.index for one in chosen),
        cpus=",".join(sorted({cpus for _, cpus in near if cpus}, key=_first)) if known else None,
        nodes=",".join(str(node) for node in sorted({n for n, _ in near if n is not None}))
        if known
        else None,
        uuids=uuids,
        files=files,
    )


def _first(cpus: str) -> int:
    return int(cpus.replace("-", ",").split(",")[0])


def _files(chosen: Sequence[Device]) -> tuple[str, ...]:
    return tuple(f"/dev/nvidia{one.minor}" for one in chosen if one.minor is not None)


def _mig_files(device: Device, one: MigDevice, root: Path) -> tuple[str, ...]:
    caps = nodes.cap_files(device.minor, one.gi, one.ci, root) if device.minor is not None else ()
    return (*_files([device]), *caps)
