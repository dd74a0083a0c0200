"""What must not be overwritten, or cannot take an image."""

from __future__ import annotations

from rich.filesize import decimal

from builder.core.errors import UserError
from builder.flash.devices import Device

_SYSTEM = {"/", "/usr", "/boot", "/boot/efi", "/efi", "/var", "/home", "[SWAP]"}
_SECTOR = 512


def check_device(device: Device, least_bytes: int, *, erase: bool) -> None:
    """Raise UserError unless an image that needs `least_bytes` may be written to the disk.

    `erase` says that data which imgbuild does not know may go.
    """
    system = sorted(_SYSTEM & set(device.mounts))
    if system:
        hint = "name another disk; imgbuild flash lists the removable ones"
        raise UserError(f"{device.path}: this host runs from it ({', '.join(system)})", hint=hint)
    if device.mounts:
        places = ", ".join(device.mounts)
        hint = f"is it the right one? then umount {' '.join(device.mounts)}"
        raise UserError(f"{device.path}: is mounted at {places}", hint=hint)
    if device.users:
        hint = "is it the right one? vgchange -an, mdadm --stop or cryptsetup close ends the use"
        raise UserError(f"{device.path}: is in use by {', '.join(device.users)}", hint=hint)
    if device.read_only:
        raise UserError(f"{device.path}: is read-only", hint="look for a switch on the medium")
    if device.sector != _SECTOR:
        fact = f"{device.path}: has sectors of {device.sector} bytes, images are for {_SECTOR}"
        raise UserError(fact, hint="nvme format, or hdparm --set-sector-size, may change that")
    if device.bytes < least_bytes:
        fact = f"{device.path}: has {decimal(device.bytes)}, the image needs {decimal(least_bytes)}"
        raise UserError(fact, hint="take a larger disk")
    if device.holds == "foreign" and not erase:
        hint = "is it the right one? --erase writes over it"
        raise UserError(f"{device.path}: holds {device.contents}", hint=hint)


def check_serial(device: Device, serial: str | None) -> None:
    """Raise UserError unless a script has named the very disk: its serial number.

    Disks without one, such as loop devices and plain files, are `none`.
    """
    there = device.serial or "none"
    if serial is None:
        hint = f"--serial {there}, if that is the one"
        raise UserError(f"{device.path}: --yes needs --serial", hint=hint)
    if serial != there:
        hint = "names of disks change from boot to boot: imgbuild flash lists them"
        raise UserError(f"{device.path}: has the serial number {there}, not {serial}", hint=hint)
