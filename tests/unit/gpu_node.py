"""A machine with GPUs: a fake libnvidia-ml.so.1 that pynvml really loads, and a root to look at."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from imgnode.gpu.inventory import Device, Inventory, Link, State
from imgnode.gpu.profile import GpuProfile
from tests.unit.serve_node import put

FIXTURES = Path(__file__).parents[1] / "fixtures/nvml"
VERSION = "535.309.01"
MEMORY = 80 << 30
A100 = GpuProfile(
    model="A100-SXM4-80GB",
    names=("NVIDIA A100-SXM4-80GB*",),
    count=8,
    memory=MEMORY,
    nvlink=True,
    driver_version=VERSION,
)
SWITCHED = tuple(Link(active=True, remote="switch") for _ in range(12))


@dataclass
class Machine:
    """What the driver says, as lines of the scenario file, and the root of the node."""

    scenario: Path
    root: Path

    def say(self, *lines: str) -> None:
        """Change what the driver says: the last line of a key counts."""
        with self.scenario.open("a") as file:
            file.writelines(f"{line}\n" for line in lines)

    def image(self, **gpu: Any) -> None:  # noqa: ANN401 - keys of the profile
        """Write what the image says about its GPUs."""
        values = {
            "model": "A100-SXM4-80GB", "names": ["NVIDIA A100-SXM4-80GB*"], "count": 8,
            "memory": MEMORY, "nvlink": True, "fabric_manager": False, "mig": None,
            "persistence": True, "power_limit_w": None, "ecc": None, **gpu,
        }  # fmt: skip
        facts = {"gpu": values, "driver_version": VERSION}
        put(self.root / "usr/lib/imgnode/image.json", facts)

    def bus(self, *addresses: str, node: int = 0, cpus: str = "0-63") -> None:
        """Put GPUs on the PCI bus, next to some processors."""
        for address in addresses:
            folder = self.root / "sys/bus/pci/devices" / address
            folder.mkdir(parents=True, exist_ok=True)
            facts = {"vendor": "0x10de", "class": "0x030200", "numa_node": node}
            for name, value in {**facts, "local_cpulist": cpus}.items():
                (folder / name).write_text(f"{value}\n")


def build(folder: Path, *without: str) -> Path:
    """Compile the fake library, without some functions; return the folder it is in."""
    folder.mkdir(parents=True, exist_ok=True)
    hidden = [f"-D{name}=without_{name}" for name in without]
    source, target = FIXTURES / "fake.c", folder / "libnvidia-ml.so.1"
    options = ["-shared", "-fPIC", "-Wall", "-Wextra", "-Werror", *hidden]
    subprocess.run(["cc", *options, "-o", target, source], check=True)
    return folder


def machine(library: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    """Return a machine of 8 A100 whose driver is the library in that folder."""
    scenario = folder / "scenario"
    scenario.write_bytes((FIXTURES / "a100.txt").read_bytes())
    monkeypatch.setenv("LD_LIBRARY_PATH", os.fspath(library))
    monkeypatch.setenv("NVML_FAKE", os.fspath(scenario))
    made = Machine(scenario, folder / "root")
    made.image()
    return made


def gpu(index: int, **changes: Any) -> Device:  # noqa: ANN401 - any value of a GPU
    """Return a GPU that is as an A100 should be."""
    values: dict[str, Any] = {
        "name": "NVIDIA A100-SXM4-80GB", "uuid": f"GPU-{index}", "minor": index,
        "address": f"0000:{index:02x}:00.0", "memory": MEMORY, "links": SWITCHED,
        "pcie_width": 16, "pcie_width_max": 16, "ecc": True, "ecc_pending": True,
        "persistence": True, "power_limit": 400.0, "mig": False, "mig_pending": False,
        "ecc_volatile": 0, "remap_pending": False, "remap_failed": False, "processes": 0,
        "numa_node": index // 4, "cpus": ("0-31,64-95", "32-63,96-127")[index // 4 % 2],
    }  # fmt: skip
    return Device(index, **{**values, **changes})


def inventory(*devices: Device, **changes: Any) -> Inventory:  # noqa: ANN401 - any value
    """Return what a sound driver says of these GPUs; 8 sound ones where none is given."""
    gpus = devices or tuple(gpu(index) for index in range(8))
    values: dict[str, Any] = {
        "driver": VERSION, "count": len(gpus), "devices": gpus,
        "pci": tuple(one.address for one in gpus),
    }  # fmt: skip
    return Inventory(**{"state": State.OK, **values, **changes})
