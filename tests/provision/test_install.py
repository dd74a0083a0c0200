"""The node's installer and the server together: from a first question to a disk that boots.

A file is the disk and systemd-repart is played, as in tests/unit/test_install.py; order, releases
and reports go through nginx, over loopback.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from builder.vm.machine import free_port
from imgnode import process
from imgnode.download import Patience
from imgnode.install import run
from imgnode.install import var as var_
from imgnode.install.__main__ import try_once
from imgnode.release.signature import KEYRING
from tests.provision.conftest import open_folder
from tests.provision.lan import Host
from tests.provision.server import Server, curl, running, write
from tests.unit.hostile import Key
from tests.unit.install_room import SIZE, Machine, with_disk
from tests.unit.update_node import IMAGE, NEW, NEW_ROOT
from tests.unit.update_node import Server as Releases

_LOOPBACK = "127.0.0.1"


@dataclass(frozen=True)
class Here(Host):
    """This machine itself: what is asked goes over loopback."""

    def argv(self, *words: str | Path) -> list[str]:
        return [str(word) for word in words]


HERE = Here("", "")


@pytest.fixture
def place() -> Iterator[Path]:
    with open_folder() as made:
        yield made


@pytest.fixture
def machine(place: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Machine]:
    """A machine without a system, and releases that its installer's keyring believes."""
    key = Key.make(place / "key")
    root, disk = place / "root", place / "disk"
    for folder in ("usr/lib/imgnode/esp/EFI/BOOT", "sys/class/dmi/id", "proc"):
        (root / folder).mkdir(parents=True)
    (root / "usr/lib/imgnode/esp/EFI/BOOT/BOOTX64.EFI").write_text("loader")
    (root / "sys/class/dmi/id/product_serial").write_text("S1\n")
    (root / KEYRING).write_bytes(key.public)
    with disk.open("wb") as stream:
        stream.truncate(SIZE)
    releases = Releases(place, sign=key.sign)
    releases.put(NEW, with_disk)
    for name, data in releases.files.items():
        path = place / "releases" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    made = Machine(root, disk, releases)
    monkeypatch.setattr(process, "run", lambda argv, **more: _run(made, argv, **more))
    monkeypatch.setattr(var_, "mounted", made.mounted)
    monkeypatch.setattr(run, "list_disks", made.disks)
    monkeypatch.setattr(Patience, "gone", True)
    yield made
    key.forget()


@pytest.fixture
def server(place: Path, machine: Machine) -> Iterator[Server]:
    port = free_port()
    (machine.root / "proc/cmdline").write_text(
        f"quiet imgnode.order=http://{_LOOPBACK}:{port}/order?serial=S1 roothash=0\n"
    )
    node = {"serial": "S1", "seed": "plain.yaml", "profile": IMAGE.removeprefix("imgbuild-")}
    write(place, {"address": _LOOPBACK, "port": port, "dhcp": "off"}, {"gpu-07": node})
    with running(HERE, place, f"{_LOOPBACK}:{port}") as made:
        yield made


def _run(machine: Machine, argv: Sequence[str], **more: Any) -> process.Finished:  # noqa: ANN401
    """Run what an installer runs; loopback need not be waited for."""
    if argv[0].endswith("wait-online"):
        return process.Finished(0, "", "")
    return machine.run(argv, **more)


def _row(server: Server) -> dict[str, str]:
    found: dict[str, str] = json.loads(curl(HERE, f"{server.base}/api/nodes/gpu-07")[1])
    return found


def test_a_machine_becomes_the_node_of_the_plan(machine: Machine, server: Server) -> None:
    assert try_once(machine.root)
    assert machine.labels() == [f"{IMAGE}_{NEW}", "_empty"]
    assert machine.read(machine.layout.roots[0].offset, len(NEW_ROOT)) == NEW_ROOT
    seed = machine.fat(machine.layout.cidata.offset, "::user-data")
    assert seed == (server.folder / "plain.yaml").read_text()
    assert machine.entries() == [f"{IMAGE}_{NEW}+3.efi"]
    row = _row(server)
    assert (row["state"], row["version"]) == ("done", NEW)
    assert row["disk"] == "disk Fast S9"
    assert try_once(machine.root) is None  # it is done: nothing is written again


def test_a_disk_with_foreign_data_is_told_and_kept(machine: Machine, server: Server) -> None:
    process.run(["mkfs.ext4", "-q", "-F", str(machine.disk)], timeout_s=60)
    before = machine.disk.read_bytes()
    assert try_once(machine.root) is None
    assert machine.disk.read_bytes() == before
    row = _row(server)
    assert row["state"] == "failed"
    assert row["why"].startswith("foreign: ")
