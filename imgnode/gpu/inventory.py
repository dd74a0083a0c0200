"""Which GPUs there are and how they stand, as plain values, and how these are asked for.

NVML (nvidia.com, "NVML API Reference") may hang for minutes when a GPU is ill, in the kernel,
where no signal reaches it. So a child process asks it (imgnode/gpu/__main__.py), within a limit.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from imgnode.gpu import sysfs
from imgnode.gpu.words import SWITCH, State
from imgnode.process import Finished, run

__all__ = [
    "CHILD",
    "LIMIT_S",
    "SWITCH",
    "Device",
    "Inventory",
    "Link",
    "MigDevice",
    "State",
    "answers",
    "device_from",
    "from_dict",
    "take",
]
LIMIT_S = 45
CHILD = (sys.executable, "-P", "-m", "imgnode.gpu")
_CUT = 124  # imgnode/process.py: its time ran out


@dataclass(frozen=True)
class Link:
    """One NVLink; `remote` is the PCI address of the GPU at its far end, or SWITCH, or None."""

    active: bool
    remote: str | None = None


@dataclass(frozen=True)
class MigDevice:
    """One MIG device: `gi` and `ci` number its GPU instance and its compute instance."""

    uuid: str
    profile: str | None
    gi: int
    ci: int


@dataclass(frozen=True)
class Device:
    """One GPU. A value that the driver does not have, or refuses, is None; `errors` says why.

    `lost` is why the GPU itself does not answer. Memory in bytes, power in watts, temperature in
    °C. ECC counts are uncorrected errors, since the driver came up and since the board was made.
    `cpus` and `numa_node` are those next to it, from the kernel.
    """

    index: int
    lost: str | None = None
    name: str | None = None
    uuid: str | None = None
    address: str | None = None
    device_id: str | None = None
    minor: int | None = None
    memory: int | None = None
    links: tuple[Link, ...] = ()
    pcie_width: int | None = None
    pcie_width_max: int | None = None
    pcie_gen: int | None = None
    pcie_gen_max: int | None = None
    mig: bool | None = None
    mig_pending: bool | None = None
    mig_devices: tuple[MigDevice, ...] = ()
    ecc: bool | None = None
    ecc_pending: bool | None = None
    ecc_volatile: int | None = None
    ecc_aggregate: int | None = None
    ecc_corrected: int | None = None
    remapped_correctable: int | None = None
    remapped_uncorrectable: int | None = None
    remap_pending: bool | None = None
    remap_failed: bool | None = None
    temperature: int | None = None
    power: float | None = None
    power_limit: float | None = None
    slowdown: tuple[str, ...] = ()
    persistence: bool | None = None
    processes: int | None = None
    numa_node: int | None = None
    cpus: str | None = None
    errors: Mapping[str, str] | None = None

    @property
    def label(self) -> str:
        """How people find it."""
        return f"GPU {self.index} ({self.address or self.uuid or 'address unknown'})"

    @property
    def links_active(self) -> int:
        """How many of its links are up."""
        return sum(link.active for link in self.links)


@dataclass(frozen=True)
class Inventory:
    """All GPUs. `pci` are the addresses on the bus, whether the driver took them or not.

    `detail` are the driver's own words when `state` is not OK; `count` is how many GPUs it
    announced, which is more than `devices` has when it hangs on the way.
    """

    state: State
    detail: str = ""
    driver: str | None = None
    cuda: str | None = None
    count: int = 0
    devices: tuple[Device, ...] = ()
    pci: tuple[str, ...] = ()

    @property
    def usable(self) -> tuple[Device, ...]:
        """The GPUs that answer."""
        return tuple(device for device in self.devices if device.lost is None)

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON has it."""
        return asdict(self)


def take(root: Path = Path("/"), *, limit_s: float = LIMIT_S) -> Inventory:
    """Ask the driver, within a limit. Never raises, never hangs longer than that and 5 s.

    `root` is where /sys is looked at; the driver is always this machine's.
    """
    told = run([*CHILD, "inventory"], timeout_s=limit_s)
    try:
        found = _understood(told, limit_s)
    except (ValueError, KeyError, TypeError) as error:  # not what our child writes
        found = Inventory(State.FAILED, f"{type(error).__name__}: {error}")
    return replace(
        found,
        pci=sysfs.gpus(root),
        devices=tuple(_placed(device, root) for device in found.devices),
    )


def from_dict(values: Mapping[str, Any]) -> Inventory:
    """Return the inventory that `as_dict` wrote. Raises KeyError, TypeError or ValueError."""
    devices = tuple(device_from(one) for one in values["devices"])
    rest = {one.name: values[one.name] for one in fields(Inventory) if one.name in values}
    rest |= {"state": State(values["state"]), "pci": tuple(values["pci"])}
    return Inventory(**{**rest, "devices": devices})


def device_from(values: Mapping[str, Any]) -> Device:
    """Return one GPU from JSON. Raises KeyError or TypeError."""
    known = {one.name: values[one.name] for one in fields(Device) if one.name in values}
    known["links"] = tuple(Link(**link) for link in known.get("links", ()))
    known["mig_devices"] = tuple(MigDevice(**one) for one in known.get("mig_devices", ()))
    known["slowdown"] = tuple(known.get("slowdown", ()))
    return Device(**known)


def answers(text: str) -> Iterator[dict[str, Any]]:
    """Yield the child's whole lines; the last one may be cut. Raises ValueError."""
    for line in text.splitlines(keepends=True):
        if line.endswith("\n"):
            yield json.loads(line)


def _understood(told: Finished, limit_s: float) -> Inventory:
    """Make an inventory of the child's lines: what is general, then one line for each GPU."""
    values = list(answers(told.stdout))
    if told.rc == _CUT:
        head = values[0] if values else {}
        detail = f"no answer within {limit_s:g} s"
        head = {**head, "state": State.HANGS, "detail": detail}
        return from_dict({**head, "devices": values[1:], "pci": ()})
    if told.rc != 0 or not values:
        words = told.stderr.strip().splitlines()
        return Inventory(State.FAILED, words[-1] if words else f"ended with {told.rc}")
    return from_dict({**values[0], "devices": values[1:], "pci": ()})


def _placed(device: Device, root: Path) -> Device:
    if device.address is None:
        return device
    node, cpus = sysfs.near(device.address, root)
    return replace(device, numa_node=node, cpus=cpus)
