"""What hands GPUs to the container: devices, driver libraries, variables. Pure but for `find`.

`devices`: nodes and one folder with the driver's libraries, as Debian alone can have it.
`nvidia`: the runtime of NVIDIA's container toolkit brings the libraries; nodes are named all
the same, since what a hook adds behind runc's back is lost (docs/decisions/gpu-container.md).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from imgnode.fault import CONFIG, HARDWARE, Fault
from imgnode.gpu.placement import Placement
from imgnode.serve import gpunodes
from imgnode.serve.facts import DEVICES, Facts, GpuFacts
from imgnode.serve.gpunodes import CONTROL, Node, Nodes

LIBRARIES = "/usr/lib/imgnode/gpu"
INSIDE = "/usr/local/nvidia"  # where CUDA's own images look, too
_DOCKERS_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_OTHERS = 0o006
_HINT = "imgnode gpu show"


@dataclass(frozen=True)
class Handed:
    """The GPUs for one container; `own` are the variables that its image sets itself."""

    facts: GpuFacts
    nodes: Nodes
    placement: Placement | None = None
    own: Mapping[str, str] = field(default_factory=dict)

    @property
    def indexes(self) -> tuple[int, ...]:
        """The GPUs by index, in the order in which the server is to see them."""
        return self.placement.gpus if self.placement else tuple(range(len(self.nodes.gpus)))

    @property
    def devices(self) -> tuple[Node, ...]:
        """The nodes that go into the container."""
        nodes = self.nodes
        if self.placement:
            caps = [node for node in nodes.caps if node.path in self.placement.files]
        else:
            caps = list(nodes.caps if self.facts.instances else ())
        chosen = set(self.indexes)
        gpus = [node for index, node in enumerate(nodes.gpus) if index in chosen]
        return (*gpus, *nodes.control, *caps)


def find(
    facts: Facts, config: str, placement: Placement | None, root: Path = Path("/")
) -> Handed | None:
    """Return what a container gets whose image has this `config`, None without GPUs."""
    if facts.gpu is None:
        return None
    return Handed(facts.gpu, gpunodes.look(root), placement, image_variables(config))


def check(handed: Handed, facts: Facts, used: int) -> None:
    """Raise Fault where the container would not have its GPUs; `used` is how many it wants."""
    nodes = handed.nodes
    there = {node.path for node in (*nodes.gpus, *nodes.control)}
    first = () if nodes.gpus else ("/dev/nvidia0",)
    for path in (*first, *(f"/dev/{name}" for name in CONTROL)):
        if path not in there:
            raise Fault(HARDWARE, f"no GPU: {path} is missing", _HINT)
    for index in handed.indexes:
        if index >= len(nodes.gpus):
            raise Fault(HARDWARE, f"no GPU {index}: the driver has {len(nodes.gpus)}", _HINT)
    for node in handed.devices:
        if node not in nodes.caps and node.mode & _OTHERS != _OTHERS:
            fact = f"no GPU: {node.path} is not open to the server (mode {node.mode:04o})"
            raise Fault(HARDWARE, fact, "the driver's DeviceFileMode; it must be 0666")
    if used > len(handed.indexes) and not handed.facts.instances:
        kind = CONFIG if facts.gpus is None else HARDWARE
        raise Fault(kind, f"{used} GPUs are wanted, there are {len(handed.indexes)}", _HINT)


def arguments(handed: Handed) -> list[str]:
    """Return the words for `docker run`."""
    devices = [f"--device={node.path}" for node in handed.devices]
    # Buffers that GPUs reach by themselves are locked in memory.
    words = ["--ulimit=memlock=-1:-1", *devices]
    if handed.facts.runtime == DEVICES:
        return [*words, f"--mount=type=bind,src={LIBRARIES},dst={INSIDE},readonly"]
    return ["--runtime=nvidia", *words]


def variables(handed: Handed, given: Mapping[str, str]) -> dict[str, str]:
    """Return the container's variables; `given` are the profile's, which come before the image's.

    A container numbers the GPUs that it sees anew, by PCI address.
    """
    found = {"CUDA_DEVICE_ORDER": "PCI_BUS_ID"}
    if handed.placement and not handed.facts.instances:
        seen = sorted(handed.placement.gpus)
        found["CUDA_VISIBLE_DEVICES"] = ",".join(
            str(seen.index(one)) for one in handed.placement.gpus
        )
    if handed.facts.runtime == DEVICES:
        own = {"PATH": _DOCKERS_PATH, **handed.own, **given}
        found["PATH"] = _with(own["PATH"], f"{INSIDE}/bin")
        found["LD_LIBRARY_PATH"] = _with(own.get("LD_LIBRARY_PATH", ""), f"{INSIDE}/lib64")
    else:
        found["NVIDIA_VISIBLE_DEVICES"] = _visible(handed)
        found["NVIDIA_DRIVER_CAPABILITIES"] = "compute,utility"
    return found


def image_variables(config: str) -> dict[str, str]:
    """Return the variables of a container image (OCI image specification, config.Env)."""
    lines = (json.loads(config).get("config") or {}).get("Env") or []
    return dict(line.split("=", 1) for line in lines if "=" in line)


def _visible(handed: Handed) -> str:
    """Return what the toolkit is to bring: GPUs or a MIG device, by UUID."""
    return ",".join(handed.placement.uuids) if handed.placement else "all"


def _with(path: str, folder: str) -> str:
    """Return a search path with a folder at its end, where it is not in it yet."""
    parts = [part for part in path.split(":") if part]
    return ":".join(parts if folder in parts else [*parts, folder])
