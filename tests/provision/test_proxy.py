"""Beside an existing DHCP server: it gives addresses, we say what to boot, nobody is disturbed."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.provision.lan import Host, lan
from tests.provision.server import ROOT, Server, offers, running, write

PXE = {"arch": 7, "vendor": "PXEClient:Arch:00007:UNDI:003016"}
HTTP = {"arch": 16, "vendor": "HTTPClient:Arch:00016:UNDI:003001"}
MAC = "52:54:00:00:00:07"
OURS, THEIRS = "10.9.0.1", "10.9.0.2"


@pytest.fixture(scope="module")
def hosts() -> Iterator[dict[str, Host]]:
    with lan(srv=f"{OURS}/24", dhcp=f"{THEIRS}/24", cli="10.9.0.50/24", new=None) as made:
        yield made


@pytest.fixture(scope="module", autouse=True)
def _existing(hosts: dict[str, Host], folder: Path) -> Iterator[None]:
    """Run the network's own DHCP server, which knows nothing of booting."""
    argv = ["dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--port=0", "--no-ping"]
    argv += ["--interface=eth0", "--bind-interfaces", "--dhcp-range=10.9.0.100,10.9.0.200,1h"]
    argv += [f"--dhcp-leasefile={folder}/their-leases", "--user=root", "--log-facility=-"]
    argv += [f"--pid-file={folder}/their.pid", "--dhcp-option=option:router,10.9.0.254"]
    with (folder / "theirs.txt").open("w") as log:
        process = subprocess.Popen(hosts["dhcp"].argv(*argv), stderr=log, stdout=log)
        time.sleep(0.5)
        yield
        process.terminate()
        process.wait(30)


@pytest.fixture(scope="module", autouse=True)
def server(hosts: dict[str, Host], folder: Path) -> Iterator[Server]:
    write(folder, {"interface": "eth0", "dhcp": "proxy"}, {"gpu-07": {"mac": MAC}})
    with running(hosts["srv"], folder, OURS) as made:
        yield made


def _both(hosts: dict[str, Host], **words: object) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return their answer and ours; each answers once."""
    found = offers(hosts["new"], MAC, **words)
    theirs = [one for one in found if one["from"] == THEIRS]
    ours = [one for one in found if one["from"] == OURS]
    assert (len(theirs), len(ours)) == (1, 1), found
    assert theirs[0]["yiaddr"].startswith("10.9.0.1")
    assert ours[0]["yiaddr"] == "0.0.0.0"  # noqa: S104 - none is bound
    return theirs[0], ours[0]


def test_http_boot_gets_the_address_of_the_installer_without_an_ip(
    hosts: dict[str, Host],
) -> None:
    theirs, ours = _both(hosts, **HTTP)
    assert ours["file"] == f"http://{OURS}/boot/installer.efi"
    assert ours["class"] == "HTTPClient"
    assert theirs["file"] == ""


@pytest.mark.parametrize("arch", [7, 9])
def test_pxe_gets_ipxe(hosts: dict[str, Host], arch: int) -> None:
    vendor = f"PXEClient:Arch:{arch:05}:UNDI:003016"
    _, ours = _both(hosts, arch=arch, vendor=vendor)
    assert ours["class"] == "PXEClient"
    assert ours["siaddr"] == OURS  # whom UEFI asks next, once it has an address
    more = {"boot_server": OURS, "own": "10.9.0.50"}
    (asked,) = offers(hosts["cli"], hosts["cli"].mac, arch=arch, vendor=vendor, **more)
    assert (asked["file"], asked["siaddr"]) == ("snponly.efi", OURS)


def test_ipxe_gets_its_script(hosts: dict[str, Host]) -> None:
    _, ours = _both(hosts, user="iPXE", **PXE)
    assert ours["file"] == f"http://{OURS}/boot/boot.ipxe"


def test_who_does_not_boot_from_the_network_hears_nothing_of_us(hosts: dict[str, Host]) -> None:
    assert [one["from"] for one in offers(hosts["new"], MAC)] == [THEIRS]
    old = {"arch": 0, "vendor": "PXEClient:Arch:00000:UNDI:002001"}
    assert all(one["file"] == "" for one in offers(hosts["new"], MAC, **old))


def test_a_second_server_that_gives_addresses_does_not_start(
    hosts: dict[str, Host], folder: Path
) -> None:
    plan = yaml.safe_load((folder / "plan.yaml").read_text())
    plan["server"] |= {"dhcp": "full", "range": "10.9.0.201-10.9.0.210"}
    (folder / "full.yaml").write_text(yaml.safe_dump(plan))
    argv = ["timeout", "50", str(ROOT / ".venv/bin/imgbuild"), "serve", str(folder / "full.yaml")]
    said = hosts["cli"].run(*argv, f"--state={folder}/second", ok=False)
    assert (
        f"eth0: another DHCP server, {THEIRS}, gives addresses here (hint: set dhcp: proxy" in said
    )


def test_a_real_client_still_gets_their_address(hosts: dict[str, Host], folder: Path) -> None:
    hosts["new"].run("udhcpc", "-i", "eth0", "-n", "-q", "-t", "5", "-s", "/bin/true")
    assert hosts["new"].mac in (folder / "their-leases").read_text()
    assert (folder / "state/run/leases").read_text() == ""
