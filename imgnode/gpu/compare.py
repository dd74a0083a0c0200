"""What is wrong with the GPUs: an inventory against the profile. Pure.

A fault makes the node unfit for its work; a warning is for the next working day. The last word of
a problem's key (`gpu.3.lost`) says which, and is the `key` of the metric.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase

from imgnode.gpu.inventory import Device, Inventory, State
from imgnode.gpu.profile import GpuProfile, MigLayout
from imgnode.problems import Problem

FAULTS = (
    "library", "driver", "hang", "nvml", "count", "lost", "name", "memory", "nvlink",
    "fabric_manager", "mig", "ecc", "ecc_errors", "rows_failed",
)  # fmt: skip
WARNINGS = ("rows_pending", "slowdown", "pcie", "settings")
OF_THE_IMAGE = frozenset({"library", "driver"})  # another version may help, another GPU does not
_MEMORY_SLACK = 0.1  # ECC and the driver take some of what a board is sold with
_BROKEN_IMAGE = "this version is broken: boot the previous one (bootctl list), build a new one"
_CYCLE = "switch the node's power off and on (a reboot is not enough); lost again: replace the GPU"
_REBOOT = "reboot; the same again: replace the GPU"
_STATES = {
    State.NO_BINDING: ("library", _BROKEN_IMAGE),
    State.NO_LIBRARY: ("library", _BROKEN_IMAGE),
    State.NO_DRIVER: ("driver", "modprobe nvidia; dmesg | grep -i nvrm says why it does not load"),
    State.MISMATCH: ("driver", _BROKEN_IMAGE),
    State.HANGS: ("hang", f"dmesg | grep -i xid names the GPU; {_CYCLE}"),
    State.FAILED: ("nvml", "dmesg | grep -i nvrm; then reboot"),
}


@dataclass(frozen=True)
class Verdict:
    """All that is wrong."""

    faults: tuple[Problem, ...] = ()
    warnings: tuple[Problem, ...] = ()


def key_of(problem: Problem) -> str:
    """Return the last word of a problem's key, one of FAULTS or WARNINGS."""
    return problem.key.rpartition(".")[2]


def compare(profile: GpuProfile, found: Inventory, *, fabric: bool | None) -> Verdict:
    """Judge. `fabric` is whether the fabric manager runs, None where it was not asked."""
    problems = [*_whole(profile, found, fabric)]
    for device in found.devices:
        problems += _device(profile, found, device)
    return Verdict(
        tuple(one for one in problems if key_of(one) in FAULTS),
        tuple(one for one in problems if key_of(one) in WARNINGS),
    )


def _whole(profile: GpuProfile, found: Inventory, fabric: bool | None) -> Iterator[Problem]:
    no_gpu = found.state is State.NO_DRIVER and not found.pci  # the module loads for a GPU alone
    if found.state is not State.OK and not no_gpu:
        yield _not_asked(found)
    else:
        yield from _count(profile, found)
    if profile.driver_version and found.driver and found.driver != profile.driver_version:
        fact = f"driver {found.driver} runs, this image was built with {profile.driver_version}"
        yield Problem("gpu.driver", fact, "reboot; the same again: " + _BROKEN_IMAGE)
    if profile.fabric_manager and fabric is False:
        hint = "systemctl status nvidia-fabricmanager; journalctl -b -u nvidia-fabricmanager"
        yield Problem("gpu.fabric_manager", "the fabric manager of the NVSwitches is down", hint)


def _not_asked(found: Inventory) -> Problem:
    key, hint = _STATES[found.state]
    fact = f"{found.state}: {found.detail}" if found.detail else str(found.state)
    if found.state is State.HANGS and len(found.devices) < found.count:
        fact += f", at GPU {len(found.devices)} of {found.count}"
    if found.pci:
        fact += f"; {len(found.pci)} GPUs on the PCI bus"
    return Problem(f"gpu.{key}", fact, hint)


def _count(profile: GpuProfile, found: Inventory) -> Iterator[Problem]:
    wanted = 1 if profile.count is None else profile.count
    have = len(found.devices)
    if have >= wanted:
        return
    least = "at least 1 GPU" if profile.count is None else f"{wanted} x {profile.model}"
    if len(found.pci) > have:
        hint = "dmesg | grep -i nvrm says why the driver leaves the others"
    else:
        hint = f"{_CYCLE}; or this is the wrong image for this machine"
    bus = f"{len(found.pci)} on the PCI bus"
    yield Problem("gpu.count", f"expected {least}, found {have} ({bus})", hint)


def _device(profile: GpuProfile, found: Inventory, device: Device) -> Iterator[Problem]:
    if device.lost is not None:
        yield _problem(device, "lost", device.lost, _CYCLE)
        return
    yield from _board(profile, device)
    yield from _health(profile, device)
    yield from _settings(profile, device)
    if profile.mig is None and profile.nvlink:
        yield from _nvlink(profile, found, device)
    yield from _split(profile.mig, device)


def _board(profile: GpuProfile, device: Device) -> Iterator[Problem]:
    if device.name and not any(fnmatchcase(device.name, glob) for glob in profile.names):
        fact = f"is an {device.name}, expected {profile.model}"
        yield _problem(device, "name", fact, "install the image of the profile for this board")
    wanted = profile.memory
    if wanted and device.memory and abs(device.memory - wanted) > wanted * _MEMORY_SLACK:
        fact = f"has {_gib(device.memory)} of memory, expected {_gib(wanted)}"
        yield _problem(device, "memory", fact, "wrong board or profile; else replace the GPU")
    if device.pcie_width and device.pcie_width_max and device.pcie_width < device.pcie_width_max:
        fact = f"PCIe runs at x{device.pcie_width} of x{device.pcie_width_max}"
        yield _problem(device, "pcie", fact, "the same under load: reseat the GPU or its riser")


def _health(profile: GpuProfile, device: Device) -> Iterator[Problem]:
    if profile.ecc is not None and device.ecc is not None and device.ecc != profile.ecc:
        fact = f"ECC is {_on(device.ecc)}, expected {_on(profile.ecc)}"
        if device.ecc_pending == profile.ecc:
            hint = "it changes at the next reboot: reboot"
        else:
            hint = f"sudo nvidia-smi -i {device.index} -e {int(profile.ecc)}, then reboot"
        yield _problem(device, "ecc", fact, hint)
    if device.ecc_volatile:
        fact = f"{device.ecc_volatile} uncorrected memory errors since the driver came up"
        yield _problem(device, "ecc_errors", fact, _REBOOT)
    if device.remap_failed:
        yield _problem(device, "rows_failed", "bad memory rows are used up", "replace the GPU")
    if device.remap_pending:
        fact = "bad memory rows are replaced at the next reset"
        yield _problem(device, "rows_pending", fact, "reboot when it suits")
    if device.slowdown:
        fact = f"slowed down: {', '.join(device.slowdown)}; {device.temperature} °C"
        yield _problem(device, "slowdown", fact, "look at fans, inlet air and power supplies")


def _settings(profile: GpuProfile, device: Device) -> Iterator[Problem]:
    wrong = []
    if profile.persistence and device.persistence is False:
        wrong.append("persistence is off, expected on")
    limit = device.power_limit
    if profile.power_limit_w and limit is not None and round(limit) != profile.power_limit_w:
        wrong.append(f"power limit is {limit:g} W, expected {profile.power_limit_w} W")
    if wrong:
        hint = "sudo imgnode gpu apply says what stands in the way"
        yield _problem(device, "settings", "; ".join(wrong), hint)


def _nvlink(profile: GpuProfile, found: Inventory, device: Device) -> Iterator[Problem]:
    """Judge its links: behind switches all must be up, else as many as its neighbours have."""
    most = max(other.links_active for other in found.usable)
    wanted = max(1, len(device.links) if profile.fabric_manager else most)
    if device.links_active < wanted:
        fact = f"{device.links_active} of {wanted} NVLinks are up"
        yield _problem(device, "nvlink", fact, f"dmesg | grep -i nvlink; {_CYCLE}")


def _split(wanted: MigLayout | None, device: Device) -> Iterator[Problem]:
    hint = "systemctl stop vllm; sudo imgnode gpu apply; it says so where a reboot is needed"
    if wanted is None:
        if device.mig:
            yield _problem(device, "mig", "MIG is on, expected off", hint)
        return
    if not device.mig:
        what = "off" if device.mig is False else "not to be had on this board"
        yield _problem(device, "mig", f"MIG is {what}, expected on", hint)
    elif not fits(wanted, device):
        have = ", ".join(one.profile or "?" for one in device.mig_devices) or "no instances"
        fact = f"split into {have}; expected {wanted.count} x {wanted.profile}"
        yield _problem(device, "mig", fact, hint)


def fits(wanted: MigLayout, device: Device) -> bool:
    """Whether a GPU is split as the profile says."""
    have = [one.profile for one in device.mig_devices]
    return have == [wanted.profile] * wanted.count


def _problem(device: Device, key: str, fact: str, hint: str) -> Problem:
    return Problem(f"gpu.{device.index}.{key}", f"{device.label}: {fact}", hint)


def _on(state: bool) -> str:
    return "on" if state else "off"


def _gib(count: int) -> str:
    return f"{count / (1 << 30):.1f} GiB"
