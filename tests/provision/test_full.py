"""The only DHCP server of a private network: every kind of firmware gets its boot file."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.provision.lan import Host, lan
from tests.provision.server import INSTALLER, Server, curl, offers, running, write

PXE = {"arch": 7, "vendor": "PXEClient:Arch:00007:UNDI:003016"}
HTTP = {"arch": 16, "vendor": "HTTPClient:Arch:00016:UNDI:003001"}
NODE = "52:54:00:00:00:07"


@pytest.fixture(scope="module")
def hosts() -> Iterator[dict[str, Host]]:
    with lan(srv="10.9.0.1/24", cli="10.9.0.50/24", new=None) as made:
        yield made


@pytest.fixture(scope="module")
def server(hosts: dict[str, Host], folder: Path) -> Iterator[Server]:
    more = {"interface": "eth0", "dhcp": "full", "range": "10.9.0.100-10.9.0.200"}
    write(folder, more, {"gpu-07": {"mac": NODE, "seed": "plain.yaml"}})
    with running(hosts["srv"], folder, "10.9.0.1") as made:
        yield made


def _one(hosts: dict[str, Host], **words: object) -> dict[str, Any]:
    (found,) = offers(hosts["new"], NODE, **words)
    assert found["from"] == "10.9.0.1"
    assert found["yiaddr"].startswith("10.9.0.1")
    return found


def test_http_boot_gets_the_address_of_the_installer(
    server: Server, hosts: dict[str, Host]
) -> None:
    found = _one(hosts, **HTTP)
    assert found["file"] == f"{server.base}/boot/installer.efi"
    assert found["class"] == "HTTPClient"
    assert found["router"] is None


@pytest.mark.parametrize("arch", [7, 9])
def test_pxe_gets_ipxe_which_tftp_has(server: Server, hosts: dict[str, Host], arch: int) -> None:
    found = _one(hosts, arch=arch, vendor=f"PXEClient:Arch:{arch:05}:UNDI:003016")
    assert (found["file"], found["siaddr"]) == ("snponly.efi", server.address)
    hosts["cli"].run(
        "curl", "-s", "-o", server.folder / "got", f"tftp://{server.address}/{found['file']}"
    )
    assert (server.folder / "got").read_bytes() == Path("/usr/lib/ipxe/snponly.efi").read_bytes()


def test_ipxe_gets_a_script_not_itself_again(server: Server, hosts: dict[str, Host]) -> None:
    found = _one(hosts, user="iPXE", **PXE)
    assert found["file"] == f"{server.base}/boot/boot.ipxe"
    status, text = curl(hosts["cli"], found["file"])
    assert status == 200
    assert text.startswith("#!ipxe\nchain http://10.9.0.1/boot/machine.ipxe?mac=${netX/mac")


def test_firmware_that_no_image_runs_on_gets_no_boot_file(hosts: dict[str, Host]) -> None:
    assert _one(hosts, arch=0, vendor="PXEClient:Arch:00000:UNDI:002001")["file"] == ""
    assert _one(hosts)["file"] == ""


def test_a_real_client_gets_an_address(server: Server, hosts: dict[str, Host]) -> None:
    told = hosts["new"].run("udhcpc", "-i", "eth0", "-n", "-q", "-t", "5", "-s", "/bin/true")
    del server, told


def test_files_come_in_ranges(server: Server, hosts: dict[str, Host]) -> None:
    client = hosts["cli"]
    for path in ("boot/installer.efi", "releases/imgbuild-cpu/part"):
        address = f"{server.base}/{path}"
        status, _ = curl(client, address, "-r", "1000-1999", "-o", f"{server.folder}/got")
        assert status == 206
        assert (server.folder / "got").read_bytes() == INSTALLER[1000:2000]
        (server.folder / "half").write_bytes(INSTALLER[:400000])
        curl(client, address, "-C", "-", "-o", f"{server.folder}/half")
        assert (server.folder / "half").read_bytes() == INSTALLER


def test_nothing_outside_is_handed_out(server: Server, hosts: dict[str, Host]) -> None:
    (server.folder / "releases/.part").write_text("half made")
    for path in (
        "releases/../plan.yaml", "releases/%2e%2e/plan.yaml", "releases../plan.yaml", "boot.efi",
        "releases/.part", "releases/", "state/admin-token",
    ):  # fmt: skip
        status, _ = curl(hosts["cli"], f"{server.base}/{path}", "--path-as-is")
        assert status in (400, 403, 404), path


def test_servers_that_die_are_started_again(server: Server, hosts: dict[str, Host]) -> None:
    for name, number in (("dnsmasq", signal.SIGKILL), ("nginx", signal.SIGTERM)):
        pid = server.state / f"run/{name}.pid"
        before = pid.read_text()
        os.kill(int(before), number)
        ends = time.monotonic() + 30
        while not pid.exists() or pid.read_text() in ("", before):
            assert time.monotonic() < ends, server.said()
            time.sleep(0.2)
        assert f"{name} ended and is started again" in server.said()
    assert _one(hosts, **HTTP)["file"] == f"{server.base}/boot/installer.efi"
    assert curl(hosts["cli"], f"{server.base}/api/nodes")[0] == 200
