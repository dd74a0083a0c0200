"""The device nodes by which the driver's users reach the GPUs: what is there now."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

CONTROL = ("nvidiactl", "nvidia-uvm")
_TOOLS = "nvidia-uvm-tools"  # for profilers; not every driver makes it
_GPU, _CAP = re.compile(r"nvidia\d+"), re.compile(r"nvidia-cap\d+")
_DEV, _PROC = Path("dev"), Path("proc/driver/nvidia/gpus")
_MINOR = re.compile(r"^Device Minor:\s*(\d+)\s*$", re.MULTILINE)
_OTHERS_READ = 0o004


@dataclass(frozen=True)
class Node:
    """A character device; `path` is the same on the node and in the container."""

    path: str
    major: int
    minor: int
    mode: int = 0o666


@dataclass(frozen=True)
class Nodes:
    """`gpus` lie in the order of their PCI addresses: their place is the GPU's index.

    `control` are those that every user of the driver needs, `caps` those of MIG instances.
    """

    gpus: tuple[Node, ...] = ()
    control: tuple[Node, ...] = ()
    caps: tuple[Node, ...] = ()


def look(root: Path = Path("/")) -> Nodes:
    """Return the nodes that are there.

    Of `/dev/nvidia-caps` only what everybody may read: the others configure MIG.
    """
    dev = root / _DEV
    order = _pci_order(root)
    gpus = [node for node in _nodes(root, dev) if _GPU.fullmatch(Path(node.path).name)]
    gpus.sort(key=lambda node: (order.get(node.minor, len(order)), node.minor))
    caps = [node for node in _nodes(root, dev / "nvidia-caps") if _CAP.search(node.path)]
    return Nodes(
        gpus=tuple(gpus),
        control=tuple(filter(None, (_node(root, dev / name) for name in (*CONTROL, _TOOLS)))),
        caps=tuple(node for node in caps if node.mode & _OTHERS_READ),
    )


def _pci_order(root: Path) -> dict[int, int]:
    """Return the place of each minor number by PCI address; NVIDIA numbers nodes by probing."""
    found: dict[int, int] = {}
    for file in sorted((root / _PROC).glob("*/information")):
        if match := _MINOR.search(file.read_text()):
            found.setdefault(int(match[1]), len(found))
    return found


def _nodes(root: Path, folder: Path) -> Iterator[Node]:
    if folder.is_dir():
        for path in sorted(folder.iterdir()):
            if node := _node(root, path):
                yield node


def _node(root: Path, path: Path) -> Node | None:
    """Return a character device; Docker makes folders of paths that are not there."""
    try:
        info = path.stat()
    except OSError:
        return None
    if not stat.S_ISCHR(info.st_mode):
        return None
    name = f"/{path.relative_to(root)}"
    major, minor = os.major(info.st_rdev), os.minor(info.st_rdev)
    return Node(name, major, minor, stat.S_IMODE(info.st_mode))
