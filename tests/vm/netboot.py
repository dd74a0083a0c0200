"""Machines that firmware starts from the network, and the server that plans them.

The machine is QEMU's plain one, so that nothing of its firmware's network is switched off. All of
it is in network namespaces.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from builder.vm.qemu import PROGRAM, SMM, Firmware, accel_arguments, firmware_arguments
from builder.vm.serial import SerialLog
from tests.provision.conftest import open_folder
from tests.provision.lan import Host
from tests.provision.server import Server, curl, running, write
from tests.vm.installing import Workshop, asking, seed_text

ADDRESS = "10.9.0.1"
MACS = tuple(f"52:54:00:00:00:{number:02x}" for number in range(9, 13))
NO_PXE = ("-fw_cfg", "name=opt/org.tianocore/IPv4PXESupport,string=n")
_NO_IPV6 = ("-fw_cfg", "name=opt/org.tianocore/IPv6Support,string=n")
_PLAIN = Firmware()
_PAUSE_S = 5.0


@contextmanager
def serving(
    workshop: Workshop,
    host: Host,
    nodes: Mapping[str, Mapping[str, str]],
    wanted: Mapping[str, Mapping[str, Any]],
    **more: object,
) -> Iterator[Server]:
    """Give a server of the only DHCP of its network; `wanted` says what a node is to serve."""
    with open_folder() as folder:
        network = {"interface": "eth0", "dhcp": "full", "range": "10.9.0.100-10.9.0.200"}
        usual = {"profile": workshop.versions.profile, "disk": "largest"}
        planned = {name: {"seed": f"{name}.yaml", **usual, **node} for name, node in nodes.items()}
        write(folder, {**network, **more}, planned)
        for name in nodes:
            keys = {"inference": dict(wanted[name])} if name in wanted else {}
            (folder / f"{name}.yaml").write_text(seed_text(name, **keys))
        shutil.rmtree(folder / "releases")
        shutil.copytree(workshop.versions.repository, folder / "releases")
        shutil.copyfile(asking(workshop, f"http://{ADDRESS}/order"), folder / "installer.efi")
        for path in folder.rglob("*"):
            path.chmod(0o755 if path.is_dir() else 0o644)
        with running(host, folder, ADDRESS) as made:
            yield made


@dataclass(frozen=True)
class Powered:
    """A machine that runs; `name` is the node that it is to become, `mac` its card."""

    name: str
    mac: str
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

    def serves(self, server: Server, limit_s: float) -> dict[str, Any]:
        """Wait until it serves whoever is on its network; return what it says of its model."""
        until = time.monotonic() + limit_s
        while time.monotonic() < until:
            for address in _addresses(server, self.mac):
                status, text = curl(server.host, f"http://{address}:8000/v1/models")
                if status == 200:
                    (one,) = json.loads(text)["data"]
                    return dict(one)
            time.sleep(_PAUSE_S)
        pytest.fail(f"{self.name} serves nobody\n{self.console.tail(60)}")


@contextmanager
def switched_on(
    lan_space: str,
    name: str,
    disk: Path,
    mac: str,
    words: tuple[str, ...],
    firmware: Firmware = _PLAIN,
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
        yield Powered(name, mac, process, console)
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
        *_NO_IPV6,
    ]


def _addresses(server: Server, mac: str) -> list[str]:
    """Return the addresses that a card has got: its firmware's, its installer's, its node's."""
    leases = (server.state / "run/leases").read_text().splitlines()
    return [line.split()[2] for line in leases if line.split()[1] == mac]
