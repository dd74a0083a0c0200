"""From an empty disk and a network to a node that serves: real OVMF, dnsmasq, nginx and iPXE.

The nodes' container is the small box with a stand-in server.
"""

from __future__ import annotations

import json
import sys
import uuid
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from builder.core.process import Runner
from builder.vm.qemu import SECURE_BOOT
from tests.build.boxed import add_node
from tests.provision.lan import Host, lan
from tests.provision.server import curl
from tests.vm.conftest import BOOT_S
from tests.vm.installing import (
    BOOT_KEYS,
    GIB,
    INSTALL_S,
    VERSION,
    Workshop,
    blank,
    open_workshop,
)
from tests.vm.netboot import ADDRESS, MACS, NO_PXE, serving, switched_on
from tests.vm.test_secureboot import DENIED
from tests.vm.test_serving import SERVING_S
from tests.vm.versions import Versions

pytestmark = [pytest.mark.vm, pytest.mark.long, pytest.mark.timeout(4 * 3600)]
SECOND = "1.1"
# Node: its profile, what its seed wants, what it says that it serves.
FOUR: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "gpu-10": (
        "boxed",
        {"model": "org/toy", "max_model_len": 1024},
        {"id": "org/toy", "model_type": "toy", "max_model_len": 1024},
    ),
    "gpu-11": (
        "second",
        {"model": "org/other", "max_model_len": 512},
        {"id": "org/other", "model_type": "other", "max_model_len": 512},
    ),
    "gpu-12": (
        "second",
        {"model": "org/toy", "served_name": "ours"},
        {"id": "ours", "model_type": "toy", "max_model_len": 2048},
    ),
    "gpu-13": (
        "boxed",
        {"model": "org/toy", "served_name": "small", "max_model_len": 256},
        {"id": "small", "model_type": "toy", "max_model_len": 256},
    ),
}


@pytest.fixture(scope="module")
def workshop(runner: Runner, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workshop]:
    with open_workshop(runner, tmp_path_factory.mktemp("versions"), "boxed") as made:
        yield made


@pytest.fixture(scope="module")
def hosts() -> Iterator[dict[str, Host]]:
    with lan(srv=f"{ADDRESS}/24") as made:
        yield made


@pytest.mark.parametrize("words", [NO_PXE, ()], ids=["http", "pxe"])
def test_an_empty_machine_becomes_the_node_of_the_plan(
    workshop: Workshop, hosts: dict[str, Host], words: tuple[str, ...]
) -> None:
    """After the installation its firmware gets no installer, and goes on to the disk."""
    disk = blank(workshop.versions.place.top / f"{'http' if words else 'pxe'}.raw", 6 * GIB)
    nodes, wanted = {"gpu-07": {"mac": MACS[0]}}, {"gpu-07": {"model": "org/toy"}}
    with (
        serving(workshop, hosts["srv"], nodes, wanted) as server,
        switched_on(_lan(hosts), "gpu-07", disk, MACS[0], words) as machine,
    ):
        machine.becomes(VERSION, INSTALL_S + 2 * BOOT_S)
        told = json.loads(curl(hosts["srv"], f"{server.base}/api/nodes/gpu-07")[1])
        assert (told["state"], told["version"]) == ("done", VERSION)
        asked = (server.state / "run/access.log").read_text()
        assert "GET /boot/installer.efi" in asked
        told = machine.serves(server, SERVING_S)
        assert (told["id"], told["model_type"]) == ("org/toy", "toy")


def test_four_machines_at_once_become_four_nodes(
    workshop: Workshop, hosts: dict[str, Host]
) -> None:
    """Two by HTTP Boot, two by PXE; two profiles, four seeds; the last two fetch from others."""
    versions = _second_profile(workshop.versions)
    nodes = {
        name: {"mac": mac, "profile": profile}
        for (name, (profile, _, _)), mac in zip(FOUR.items(), MACS, strict=True)
    }
    wanted = {name: keys for name, (_, keys, _) in FOUR.items()}
    with ExitStack() as stack:
        share = {"from_server": 2}
        served = serving(workshop, hosts["srv"], nodes, wanted, share=share)
        server = stack.enter_context(served)
        machines = []
        for number, name in enumerate(FOUR):
            disk = blank(versions.place.top / f"{name}.raw", 6 * GIB)
            words = NO_PXE if number % 2 else ()
            one = switched_on(_lan(hosts), name, disk, MACS[number], words)
            machines.append(stack.enter_context(one))
        for machine in machines:
            version = SECOND if FOUR[machine.name][0] == "second" else VERSION
            machine.becomes(version, 4 * (INSTALL_S + 2 * BOOT_S))
        told = json.loads(curl(hosts["srv"], f"{server.base}/api/nodes")[1])["nodes"]
        assert {row["state"] for row in told} == {"done"}
        whole = 2 * (workshop.versions.download(VERSION) + versions.download(SECOND))
        print(f"the server sent {server.sent / whole:.2f} of what four machines fetched")
        assert server.sent < 0.75 * whole  # at least one came from others alone
        for machine in machines:
            assert machine.serves(server, 4 * SERVING_S) == FOUR[machine.name][2]


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
        with serving(workshop, hosts["srv"], nodes, {}) as server:
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
    """Release another profile, which has a model more."""
    made = replace(versions, profile="second")
    add_node(made.place, name="second", models=("toy", "other"))
    made.build(SECOND)
    made.release(SECOND)
    return made


def _lan(hosts: dict[str, Host]) -> str:
    return hosts["srv"].space.replace("-srv", "-lan")
