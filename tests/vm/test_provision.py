"""From an empty disk and a network to a node with its seed: real OVMF, dnsmasq, nginx and iPXE.

All of it is in network namespaces. The machine is QEMU's plain one, so that nothing of its
firmware's network is switched off.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from builder.core.process import Runner
from builder.vm.qemu import (
    PROGRAM,
    SECURE_BOOT,
    SMM,
    Firmware,
    accel_arguments,
    firmware_arguments,
)
from builder.vm.serial import SerialLog
from tests.provision.conftest import open_folder
from tests.provision.lan import Host, lan
from tests.provision.server import Server, curl, running, write
from tests.vm.conftest import BOOT_S
from tests.vm.installing import (
    BOOT_KEYS,
    GIB,
    INSTALL_S,
    VERSION,
    Workshop,
    asking,
    blank,
    open_workshop,
)
from tests.vm.test_secureboot import DENIED
from tests.vm.versions import Versions

pytestmark = [pytest.mark.vm, pytest.mark.long, pytest.mark.timeout(4 * 3600)]
ADDRESS = "10.9.0.1"
MACS = tuple(f"52:54:00:00:00:{number:02x}" for number in range(9, 13))
SECOND = "1.1"
PLAIN = Firmware()
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


@contextmanager
def serving(
    workshop: Workshop, host: Host, nodes: Mapping[str, Mapping[str, str]], **more: object
) -> Iterator[Server]:
    """Give a server of the only DHCP of its network; each node's seed is a hostname."""
    with open_folder() as folder:
        network = {"interface": "eth0", "dhcp": "full", "range": "10.9.0.100-10.9.0.200"}
        wanted = {
            name: {"seed": f"{name}.yaml", "profile": "bare", "disk": "largest", **node}
            for name, node in nodes.items()
        }
        write(folder, {**network, **more}, wanted)
        for name in nodes:
            (folder / f"{name}.yaml").write_text(f"#cloud-config\nhostname: {name}\n")
        shutil.rmtree(folder / "releases")
        shutil.copytree(workshop.versions.repository, folder / "releases")
        shutil.copyfile(asking(workshop, f"http://{ADDRESS}/order"), folder / "installer.efi")
        for path in folder.rglob("*"):
            path.chmod(0o755 if path.is_dir() else 0o644)
        with running(host, folder, ADDRESS) as made:
            yield made


@dataclass(frozen=True)
class Powered:
    """A machine that runs; `name` is the node that it is to become."""

    name: str
    process: subprocess.Popen[bytes]
    console: SerialLog

    def alive(self) -> bool:
        return self.process.poll() is None

    def becomes(self, version: str, limit_s: float) -> None:
        """Wait until it is installed with a version and has booted from its disk."""
        until = time.monotonic() + limit_s
        ended = self.console.wait_for(r"install: (done|failed).*", limit_s, alive=self.alive)
        assert ended.text.strip().endswith(f"done: {version}"), self.console.tail()
        left = until - time.monotonic()
        self.console.wait_for(f"{self.name} login:", left, since=ended.end, alive=self.alive)


@contextmanager
def switched_on(
    lan_space: str,
    name: str,
    disk: Path,
    mac: str,
    words: tuple[str, ...],
    firmware: Firmware = PLAIN,
) -> Iterator[Powered]:
    """Switch on a machine whose first boot option is its card, which hangs on the bridge."""
    tap = f"tap{MACS.index(mac)}"
    inside = ["ip", "netns", "exec", lan_space]
    subprocess.run([*inside, "ip", "tuntap", "add", tap, "mode", "tap"], check=True)
    subprocess.run([*inside, "ip", "link", "set", tap, "master", "br0", "up"], check=True)
    console = SerialLog(disk.with_suffix(".serial"))
    argv = [*inside, *_argv(disk, tap, mac, firmware), *words]
    process = subprocess.Popen(argv, stdin=subprocess.DEVNULL)
    try:
        yield Powered(name, process, console)
    finally:
        process.kill()
        process.wait()
        subprocess.run([*inside, "ip", "tuntap", "del", tap, "mode", "tap"], check=False)
        print(console.tail(60))


def _argv(disk: Path, tap: str, mac: str, firmware: Firmware) -> list[str]:
    variables = disk.with_suffix(".vars")
    shutil.copyfile(firmware.variables, variables)
    return [
        *(PROGRAM, "-no-user-config", "-nodefaults", "-display", "none"),
        *("-machine", f"q35,smm={'on' if firmware.smm else 'off'}"),
        *(SMM if firmware.smm else ()),
        *accel_arguments("tcg"),
        *("-m", "2048", "-smp", "2"),
        *firmware_arguments(firmware.code, variables),
        *("-drive", f"if=none,id=disk,format=raw,cache=unsafe,discard=unmap,file={disk}"),
        *("-device", "virtio-blk-pci,drive=disk,bootindex=2"),
        *("-netdev", f"tap,id=net,ifname={tap},script=no,downscript=no"),
        *("-device", f"virtio-net-pci,netdev=net,mac={mac},bootindex=1,romfile="),
        *(
            "-object",
            "rng-random,id=rng,filename=/dev/urandom",
            "-device",
            "virtio-rng-pci,rng=rng",
        ),
        *("-serial", f"file:{disk.with_suffix('.serial')}"),
        *NO_IPV6,
    ]


@pytest.mark.parametrize("words", [NO_PXE, ()], ids=["http", "pxe"])
def test_an_empty_machine_becomes_the_node_of_the_plan(
    workshop: Workshop, hosts: dict[str, Host], words: tuple[str, ...]
) -> None:
    """After the installation its firmware gets no installer, and goes on to the disk."""
    disk = blank(workshop.versions.place.top / f"{'http' if words else 'pxe'}.raw", 6 * GIB)
    nodes = {"gpu-07": {"mac": MACS[0]}}
    with (
        serving(workshop, hosts["srv"], nodes) as server,
        switched_on(_lan(hosts), "gpu-07", disk, MACS[0], words) as machine,
    ):
        machine.becomes(VERSION, INSTALL_S + 2 * BOOT_S)
        told = json.loads(curl(hosts["srv"], f"{server.base}/api/nodes/gpu-07")[1])
        assert (told["state"], told["version"]) == ("done", VERSION)
        asked = (server.state / "run/access.log").read_text()
        assert "GET /boot/installer.efi" in asked


def test_four_machines_at_once_become_four_nodes(
    workshop: Workshop, hosts: dict[str, Host]
) -> None:
    """Two by HTTP Boot, two by PXE; two profiles, four seeds; the last two fetch from others."""
    versions = _second_profile(workshop.versions)
    names = [f"gpu-1{number}" for number in range(4)]
    kinds = {name: "bare" if name in names[::3] else versions.profile for name in names}
    nodes = {
        name: {"mac": mac, "profile": kinds[name]} for name, mac in zip(names, MACS, strict=True)
    }
    with ExitStack() as stack:
        share = {"from_server": 2}
        server = stack.enter_context(serving(workshop, hosts["srv"], nodes, share=share))
        machines = []
        for number, name in enumerate(names):
            disk = blank(versions.place.top / f"{name}.raw", 6 * GIB)
            words = NO_PXE if number % 2 else ()
            one = switched_on(_lan(hosts), name, disk, MACS[number], words)
            machines.append(stack.enter_context(one))
        for machine in machines:
            version = VERSION if kinds[machine.name] == "bare" else SECOND
            machine.becomes(version, 4 * (INSTALL_S + 2 * BOOT_S))
        told = json.loads(curl(hosts["srv"], f"{server.base}/api/nodes")[1])["nodes"]
        assert {row["state"] for row in told} == {"done"}


def test_with_secure_boot_the_signed_installer_makes_a_signed_node(
    runner: Runner, hosts: dict[str, Host], tmp_path: Path
) -> None:
    """By HTTP Boot, firmware that knows the site's key alone; an unsigned one does not start."""
    with open_workshop(runner, tmp_path / "signed", signs=True) as workshop:
        top = workshop.versions.place.top
        keys = tmp_path / "enrolled.fd"
        roles = zip(("--set-pk", "--add-kek", "--add-db"), ("PK", "KEK", "db"), strict=True)
        enrol: list[str | Path] = ["--sb"]
        for word, role in roles:
            enrol += [word, str(uuid.uuid4()), top / BOOT_KEYS / f"{role}.crt"]
        program = Path(sys.executable).with_name("virt-fw-vars")
        runner.run([program, "--input", SECURE_BOOT.variables, *enrol, "--output", keys])
        firmware = replace(SECURE_BOOT, variables=keys)
        disk = blank(top / "signed.raw", 6 * GIB)
        nodes = {"gpu-07": {"mac": MACS[0]}}
        with serving(workshop, hosts["srv"], nodes) as server:
            signed = server.folder / "installer.efi"
            kept = signed.read_bytes()
            runner.run(["sbattach", "--remove", signed])
            started = switched_on(_lan(hosts), "gpu-07", disk, MACS[0], NO_PXE, firmware)
            with started as machine:
                machine.console.wait_for(DENIED, INSTALL_S, alive=machine.alive)
                assert "install:" not in machine.console.read()
            signed.write_bytes(kept)
            started = switched_on(_lan(hosts), "gpu-07", disk, MACS[0], NO_PXE, firmware)
            with started as machine:
                machine.becomes(VERSION, 2 * (INSTALL_S + 2 * BOOT_S))


def _second_profile(versions: Versions) -> Versions:
    """Release the same system under the name of another profile."""
    profiles = versions.place.project / "config/profiles"
    shutil.copyfile(profiles / "bare.yaml", profiles / "second.yaml")
    made = replace(versions, profile="second")
    made.build(SECOND)
    made.release(SECOND)
    return made


def _lan(hosts: dict[str, Host]) -> str:
    return hosts["srv"].space.replace("-srv", "-lan")
