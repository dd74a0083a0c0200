"""From an empty disk and a network to a node with its seed: real OVMF, dnsmasq, nginx and iPXE.

All of it is in network namespaces. The machine is QEMU's plain one, so that nothing of its
firmware's network is switched off.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from builder.core.process import Runner
from builder.vm.qemu import PROGRAM, Firmware, accel_arguments, firmware_arguments
from builder.vm.serial import SerialLog
from tests.provision.conftest import open_folder
from tests.provision.lan import Host, lan
from tests.provision.server import Server, curl, running, write
from tests.vm.conftest import BOOT_S
from tests.vm.installing import GIB, INSTALL_S, VERSION, Workshop, asking, blank, open_workshop

pytestmark = [pytest.mark.vm, pytest.mark.long, pytest.mark.timeout(3600)]
ADDRESS = "10.9.0.1"
MAC = "52:54:00:00:00:09"
NO_PXE = ("-fw_cfg", "name=opt/org.tianocore/IPv4PXESupport,string=n")
NO_IPV6 = ("-fw_cfg", "name=opt/org.tianocore/IPv6Support,string=n")


@pytest.fixture(scope="module")
def workshop(runner: Runner, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workshop]:
    with open_workshop(runner, tmp_path_factory.mktemp("versions")) as made:
        yield made


@pytest.fixture(scope="module")
def hosts() -> Iterator[dict[str, Host]]:
    with lan(srv=f"{ADDRESS}/24") as made:
        yield made


@pytest.fixture
def server(workshop: Workshop, hosts: dict[str, Host]) -> Iterator[Server]:
    with open_folder() as folder:
        node = {"mac": MAC, "seed": "plain.yaml", "profile": "bare", "disk": "largest"}
        network = {"interface": "eth0", "dhcp": "full", "range": "10.9.0.100-10.9.0.200"}
        write(folder, network, {"gpu-07": node})
        shutil.rmtree(folder / "releases")
        shutil.copytree(workshop.versions.repository, folder / "releases")
        shutil.copyfile(asking(workshop, f"http://{ADDRESS}/order"), folder / "installer.efi")
        for path in folder.rglob("*"):
            path.chmod(0o755 if path.is_dir() else 0o644)
        with running(hosts["srv"], folder, ADDRESS) as made:
            yield made


def switched_on(lan_space: str, disk: Path, words: tuple[str, ...]) -> subprocess.Popen[bytes]:
    """Start a machine whose first boot option is its card, which hangs on the bridge."""
    firmware = Firmware()
    variables = disk.with_suffix(".vars")
    shutil.copyfile(firmware.variables, variables)
    inside = ["ip", "netns", "exec", lan_space]
    subprocess.run([*inside, "ip", "tuntap", "add", "tap0", "mode", "tap"], check=True)
    subprocess.run([*inside, "ip", "link", "set", "tap0", "master", "br0", "up"], check=True)
    argv = [
        *(PROGRAM, "-no-user-config", "-nodefaults", "-display", "none", "-machine", "q35"),
        *accel_arguments("tcg"),
        *("-m", "2048", "-smp", "2"),
        *firmware_arguments(firmware.code, variables),
        *("-drive", f"if=none,id=disk,format=raw,cache=unsafe,discard=unmap,file={disk}"),
        *("-device", "virtio-blk-pci,drive=disk,bootindex=2"),
        *("-netdev", "tap,id=net,ifname=tap0,script=no,downscript=no"),
        *("-device", f"virtio-net-pci,netdev=net,mac={MAC},bootindex=1,romfile="),
        *(
            "-object",
            "rng-random,id=rng,filename=/dev/urandom",
            "-device",
            "virtio-rng-pci,rng=rng",
        ),
        *("-serial", f"file:{_console(disk)}"),
        *NO_IPV6,
        *words,
    ]
    return subprocess.Popen([*inside, *argv], stdin=subprocess.DEVNULL)


def _console(disk: Path) -> Path:
    return disk.with_suffix(".serial")


@pytest.mark.parametrize("words", [NO_PXE, ()], ids=["http", "pxe"])
def test_an_empty_machine_becomes_the_node_of_the_plan(
    server: Server, workshop: Workshop, hosts: dict[str, Host], words: tuple[str, ...]
) -> None:
    """After the installation its firmware gets no installer, and goes on to the disk."""
    disk = blank(workshop.versions.place.top / f"{'http' if words else 'pxe'}.raw", 6 * GIB)
    lan_space = hosts["srv"].space.replace("-srv", "-lan")
    machine = switched_on(lan_space, disk, words)
    console = SerialLog(_console(disk))

    def alive() -> bool:
        return machine.poll() is None

    try:
        ended = console.wait_for(r"install: (done|failed).*", INSTALL_S, alive=alive)
        assert ended.text.strip().endswith(f"done: {VERSION}"), console.tail()
        console.wait_for("gpu-07 login:", 2 * BOOT_S, since=ended.end, alive=alive)
        told = json.loads(curl(hosts["srv"], f"{server.base}/api/nodes/gpu-07")[1])
        assert (told["state"], told["version"]) == ("done", VERSION)
        asked = (server.state / "run/access.log").read_text()
        assert "GET /boot/installer.efi" in asked
    finally:
        machine.kill()
        machine.wait()
        inside = ["ip", "netns", "exec", lan_space]
        subprocess.run([*inside, "ip", "tuntap", "del", "tap0", "mode", "tap"], check=False)
        print(console.tail(60))
