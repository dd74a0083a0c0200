"""What the kernel knows of GPUs without the driver (Documentation/ABI/testing/sysfs-bus-pci)."""

from __future__ import annotations

from pathlib import Path

_DEVICES = Path("sys/bus/pci/devices")
_VENDOR = "0x10de"  # NVIDIA
_DISPLAY = "0x03"  # class: VGA or 3D controller


def gpus(root: Path = Path("/")) -> tuple[str, ...]:
    """Return the PCI addresses of all NVIDIA GPUs on the bus, such as 0000:07:00.0, in order."""
    folder = root / _DEVICES
    found = sorted(folder.iterdir()) if folder.is_dir() else []
    return tuple(
        one.name
        for one in found
        if _read(one / "vendor") == _VENDOR and (_read(one / "class") or "").startswith(_DISPLAY)
    )


def near(address: str, root: Path = Path("/")) -> tuple[int | None, str | None]:
    """Return the memory node and the processors (a list as in cpuset(7)) next to a PCI device.

    Each is None where the firmware does not say.
    """
    folder = root / _DEVICES / address
    node = _read(folder / "numa_node")
    known = node is not None and node.isdigit()
    return (int(node) if known and node else None, _read(folder / "local_cpulist") or None)


def _read(path: Path) -> str | None:
    try:
        return path.read_text().strip()
    except OSError:
        return None
