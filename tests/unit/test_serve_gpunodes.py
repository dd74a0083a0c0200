"""Which device nodes there are; making real ones takes root, so stat is played."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from imgnode.serve.gpunodes import Node, Nodes, look

FILES = {
    "nvidia0": (195, 0, 0o666),
    "nvidia1": (195, 1, 0o666),
    "nvidia10": (195, 10, 0o660),
    "nvidiactl": (195, 255, 0o666),
    "nvidia-uvm": (511, 0, 0o666),
    "nvidia-uvm-tools": (511, 1, 0o666),
    "nvidia-modeset": (195, 254, 0o666),
    "nvidia-nvswitch0": (510, 0, 0o666),
    "nvidia-caps/nvidia-cap1": (509, 1, 0o400),
    "nvidia-caps/nvidia-cap2": (509, 2, 0o444),
    "sda": (8, 0, 0o660),
}


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    dev = tmp_path / "dev"
    (dev / "nvidia-caps").mkdir(parents=True)
    (dev / "nvidia7").mkdir()  # as Docker makes of a path that is not there
    for name in FILES:
        (dev / name).touch()
    genuine = Path.stat

    def played(path: Path, *, follow_symlinks: bool = True) -> os.stat_result:
        name = str(path).removeprefix(f"{dev}/")
        if name not in FILES:
            return genuine(path, follow_symlinks=follow_symlinks)
        major, minor, mode = FILES[name]
        device = {"st_rdev": os.makedev(major, minor)}
        return os.stat_result((stat.S_IFCHR | mode, *[0] * 9), device)

    monkeypatch.setattr(Path, "stat", played)
    return tmp_path


def card(root: Path, address: str, minor: int) -> None:
    file = root / f"proc/driver/nvidia/gpus/{address}/information"
    file.parent.mkdir(parents=True)
    file.write_text(f"Model: \t\t NVIDIA H200\nIRQ:   \t\t 18\nDevice Minor: \t {minor}\n")


def names(nodes: tuple[Node, ...]) -> list[str]:
    return [node.path.removeprefix("/dev/") for node in nodes]


def test_nodes_that_a_container_needs_and_no_other(root: Path) -> None:
    found = look(root)
    assert names(found.gpus) == ["nvidia0", "nvidia1", "nvidia10"]
    assert names(found.control) == ["nvidiactl", "nvidia-uvm", "nvidia-uvm-tools"]
    assert names(found.caps) == ["nvidia-caps/nvidia-cap2"]
    assert found.gpus[2] == Node("/dev/nvidia10", 195, 10, 0o660)
    assert found.control[1] == Node("/dev/nvidia-uvm", 511, 0)


def test_an_index_is_the_place_by_pci_address(root: Path) -> None:
    """As on boards whose nodes were numbered in another order."""
    card(root, "0000:90:00.0", 0)
    card(root, "0000:07:00.0", 10)
    assert names(look(root).gpus) == ["nvidia10", "nvidia0", "nvidia1"]


def test_no_driver_at_all(tmp_path: Path) -> None:
    assert look(tmp_path) == Nodes()
