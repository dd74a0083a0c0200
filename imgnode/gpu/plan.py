"""What must be set for the GPUs to be as the profile says. Pure: nothing where they are."""

from __future__ import annotations

from dataclasses import dataclass

from imgnode.gpu.compare import fits
from imgnode.gpu.inventory import Device, Inventory
from imgnode.gpu.profile import GpuProfile, MigLayout


@dataclass(frozen=True)
class Setting:
    """One value of one GPU: persistence (0, 1), power_limit (watts), mig (0, 1)."""

    index: int
    key: str
    value: int


def settings(profile: GpuProfile, found: Inventory) -> tuple[Setting, ...]:
    """Return what NVML is to set. MIG is left alone on a GPU that is in use."""
    return tuple(one for device in found.usable for one in _settings(profile, device))


def _settings(profile: GpuProfile, device: Device) -> list[Setting]:
    wanted = []
    if profile.persistence and device.persistence is False:
        wanted.append(Setting(device.index, "persistence", 1))
    limit = device.power_limit
    if profile.power_limit_w and limit is not None and round(limit) != profile.power_limit_w:
        wanted.append(Setting(device.index, "power_limit", profile.power_limit_w))
    mig = profile.mig is not None
    if device.mig_pending is not None and device.mig_pending != mig and idle(device):
        wanted.append(Setting(device.index, "mig", int(mig)))
    return wanted


def clearing(profile: GpuProfile, found: Inventory) -> tuple[Device, ...]:
    """Return the idle GPUs whose MIG instances are in the way of the profile."""
    return tuple(
        device
        for device in found.usable
        if device.mig and device.mig_devices and idle(device) and not _as_wanted(profile, device)
    )


def splitting(profile: GpuProfile, found: Inventory) -> tuple[Device, ...]:
    """Return the idle GPUs in MIG mode that have no instances and shall have some."""
    if profile.mig is None:
        return ()
    return tuple(one for one in found.usable if one.mig and not one.mig_devices and idle(one))


def instances(wanted: MigLayout) -> str:
    """Return the instances as `nvidia-smi mig -cgi` takes them."""
    return ",".join([wanted.profile] * wanted.count)


def notes(profile: GpuProfile, found: Inventory) -> list[str]:
    """Return what a person must do for the rest to come about."""
    said = []
    for device in found.usable:
        unlike = device.mig is not None and not _as_wanted(profile, device)
        if unlike and device.mig != device.mig_pending:
            said.append(f"{device.label}: MIG changes at the next reset: reboot")
        elif unlike and not idle(device):
            used = f"{device.processes} processes use it"
            said.append(f"{device.label}: MIG is left as it is, {used}: systemctl stop vllm")
        wrong = profile.ecc is not None and device.ecc_pending not in (None, profile.ecc)
        if wrong:
            command = f"nvidia-smi -i {device.index} -e {int(bool(profile.ecc))}"
            said.append(f"{device.label}: ECC is a person's matter: {command}, then reboot")
    return said


def idle(device: Device) -> bool:
    """Whether nothing runs on a GPU; not when the driver does not say."""
    return device.processes == 0


def _as_wanted(profile: GpuProfile, device: Device) -> bool:
    if profile.mig is None:
        return not device.mig
    return bool(device.mig) and fits(profile.mig, device)
