"""GPUs for a node that has none: NVIDIA's library is the fake one of the unit tests."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from pathlib import Path

from builder.vm.session import VmNode
from tests.unit import gpu_node
from tests.vm.test_serving import sudo

FAKE = "/run/fake"
ENVIRONMENT = f"LD_LIBRARY_PATH={FAKE} NVML_FAKE={FAKE}/scenario"
UNITS = ("imgnode-health", "imgnode-exporter")
_DROP_IN = f"[Service]\\nEnvironment={ENVIRONMENT}\\n"


def put(node: VmNode, path: str, data: bytes) -> None:
    text = base64.b64encode(data).decode()
    sudo(
        node, f"mkdir -p {Path(path).parent}; echo {text} | base64 -d | sudo tee {path} >/dev/null"
    )


def fit(node: VmNode, folder: Path, units: Sequence[str] = UNITS) -> None:
    """Give the services of a node the driver's library, which says that there are eight GPUs.

    `folder` of this machine is for the library.
    """
    library = gpu_node.build(folder) / "libnvidia-ml.so.1"
    put(node, f"{FAKE}/libnvidia-ml.so.1", library.read_bytes())
    put(node, f"{FAKE}/scenario", (gpu_node.FIXTURES / "a100.txt").read_bytes())
    for unit in units:
        there = f"/run/systemd/system/{unit}.service.d"
        sudo(node, f"mkdir -p {there}; printf '{_DROP_IN}' | sudo tee {there}/fake.conf")
    sudo(node, "systemctl daemon-reload")
    sudo(node, f"systemctl restart --no-block {' '.join(units)}")
