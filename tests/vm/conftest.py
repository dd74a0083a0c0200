"""The images of a run, and a node for each test module.

A module's NODE_PROFILE says which profile it wants: `bare` (default), `cpu`, or a node with GPUs
without its container (`tests/build/gpuos.py`). It is built where needed (stages come from the
cache). IMGBUILD_TEST_IMAGE in the environment names a disk image to be tested instead; what
needs a container is skipped if that one has none.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest
import testinfra
from testinfra.host import Host

from builder.core.files import remove_tree
from builder.core.process import Runner
from builder.model.artifacts import Manifest
from builder.vm.keep import keep_evidence
from builder.vm.kvm import probe_kvm
from builder.vm.qemu import Accel
from builder.vm.session import VmNode, VmSize, start_node
from tests.build import gpuos
from tests.build.command import Place, copy_project

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

    @property
    def manifest(self) -> Manifest:
        """What the image says of itself."""
        return Manifest.model_validate_json((self.folder / "manifest.json").read_text())


@pytest.fixture(scope="session")
def runner() -> Iterator[Runner]:
    """Give a door for processes; what still runs at the end is ended."""
    door = Runner()
    yield door
    door.close()


@cache
def built(profile: str) -> Image:
    """Return the image of a profile, building it once."""
    argv = [sys.executable, "-m", "builder.cli.main", "build", "--profile", profile]
    env = dict(os.environ)
    if profile == gpuos.NAME:
        place = Place(FOLDER / profile / os.environ.get("PYTEST_XDIST_WORKER", "alone"))
        remove_tree(place.project)
        copy_project(ROOT, place.project, link=True)
        gpuos.add_gpu_os(place)
        env |= {"IMGBUILD_PROJECT": str(place.project), "IMGBUILD_CACHE": str(FOLDER.parent)}
    done = subprocess.run(argv, cwd=ROOT, env=env, check=True, stdout=subprocess.PIPE, text=True)
    return Image(Path(done.stdout.strip()))


@pytest.fixture(scope="module")
def image(request: pytest.FixtureRequest) -> Image:
    """Give the image under test."""
    profile = getattr(request.module, "NODE_PROFILE", "bare")
    named = os.environ.get("IMGBUILD_TEST_IMAGE")
    found = Image(Path(named).parent) if named else built(profile)
    if profile == "cpu" and found.manifest.payload.container is None:
        pytest.skip(f"{found.folder}: has no container")
    return found


@pytest.fixture(scope="session")
def accel(runner: Runner, tmp_path_factory: pytest.TempPathFactory) -> Accel:
    """Say how machines run here: KVM where it works, else emulation."""
    return "kvm" if probe_kvm(runner, tmp_path_factory.mktemp("kvm")).usable else "tcg"


def keep_if_failed(request: pytest.FixtureRequest, node: VmNode) -> None:
    """When a test has failed, print and keep what a node has to say of it."""
    if request.session.testsfailed:
        logs = ROOT / "out" / "failed-tests" / request.module.__name__
        print(keep_evidence(node.machine, node.ssh, logs))


@pytest.fixture(scope="module")
def node(
    request: pytest.FixtureRequest, runner: Runner, image: Image, accel: Accel
) -> Iterator[VmNode]:
    """Give a node that has just booted for the first time; each test module has its own.

    A module's NODE_SEED is its seed, its NODE_SIZE what the machine has, NODE_EXTRA further words
    for QEMU.
    """
    seed = getattr(request.module, "NODE_SEED", SEED)
    size = getattr(request.module, "NODE_SIZE", VmSize())
    extra = getattr(request.module, "NODE_EXTRA", ())
    with start_node(
        runner, image.disk, seed, FOLDER, accel=accel, size=size, extra=extra
    ) as started:
        yield started
        keep_if_failed(request, started)


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


Record = Callable[[str, object], None]


def note(record: Record, name: str, since: float) -> None:
    """Record and print the seconds since a moment."""
    seconds = round(time.monotonic() - since)
    record(name, seconds)
    print(f"{name}: {seconds} s")


Restart = Callable[[], None]
