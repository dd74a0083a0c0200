"""One image and one node for all VM tests of a run.

IMGBUILD_TEST_IMAGE in the environment names the disk image; without it the `cpu` profile
is built (stages come from the cache).
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import testinfra
from testinfra.host import Host

from builder.core.process import Runner
from builder.vm.keep import keep_evidence
from builder.vm.kvm import probe_kvm
from builder.vm.qemu import Accel
from builder.vm.session import VmNode, VmSize, start_node

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / ".cache" / "imgbuild" / "vm"
SEED = """#cloud-config
hostname: gpu-07
"""


@dataclass(frozen=True)
class Image:
    """An image folder under test."""

    folder: Path

    @property
    def disk(self) -> Path:
        """The disk image."""
        return self.folder / "disk.raw"


@pytest.fixture(scope="session")
def runner() -> Iterator[Runner]:
    """Give a door for processes; what still runs at the end is ended."""
    door = Runner()
    yield door
    door.close()


@pytest.fixture(scope="session")
def image() -> Image:
    """Give the image under test, building it where none is named."""
    named = os.environ.get("IMGBUILD_TEST_IMAGE")
    if named:
        return Image(Path(named).parent)
    argv = [sys.executable, "-m", "builder.cli.main", "build", "--profile", "cpu"]
    built = subprocess.run(argv, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True)
    return Image(Path(built.stdout.strip()))


@pytest.fixture(scope="session")
def accel(runner: Runner, tmp_path_factory: pytest.TempPathFactory) -> Accel:
    """Say how machines run here: KVM where it works, else emulation."""
    return "kvm" if probe_kvm(runner, tmp_path_factory.mktemp("kvm")).usable else "tcg"


@pytest.fixture(scope="module")
def node(
    request: pytest.FixtureRequest, runner: Runner, image: Image, accel: Accel
) -> Iterator[VmNode]:
    """Give a node that has just booted for the first time; each test module has its own.

    A module's NODE_SEED is its seed.
    """
    seed = getattr(request.module, "NODE_SEED", SEED)
    with start_node(runner, image.disk, seed, FOLDER, accel=accel, size=VmSize()) as started:
        yield started
        if request.session.testsfailed:
            logs = ROOT / "out" / "failed-tests" / request.module.__name__
            print(keep_evidence(started.machine, started.ssh, logs))


@pytest.fixture(scope="module")
def up(node: VmNode) -> VmNode:
    """Give the node once SSH lets us in and every service has settled."""
    node.machine.wait_for("login:", BOOT_S)
    wait_settled(node)
    return node


@pytest.fixture(scope="module")
def host(up: VmNode) -> Host:
    """Give testinfra's view of the node, as root by sudo."""
    return testinfra.get_host("ssh://node", ssh_config=str(up.ssh.config), sudo=True)


BOOT_S = 400.0


def wait_settled(node: VmNode) -> None:
    """Wait for SSH and for the end of all start jobs."""
    node.ssh.wait_ready(BOOT_S)
    node.ssh.run("systemctl is-system-running --wait", BOOT_S)


Restart = Callable[[], None]
