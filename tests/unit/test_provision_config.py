"""Generated configurations, scripts, and the answer to UEFI HTTP Boot."""

from __future__ import annotations

import dataclasses
import ipaddress
import re
import struct
from pathlib import Path

import pytest

from builder.core.errors import UserError
from builder.serve import httpclient, ipxe, net, probe
from builder.serve.dnsmasq import dnsmasq
from builder.serve.nginx import nginx
from builder.serve.place import Place
from tests.unit.provision_desk import MAC, SERVER, plan

_STATE = Path("/var/lib/imgbuild-serve")


def place(
    state: Path = _STATE, releases: Path | None = Path("/srv/rel"), **server: object
) -> Place:
    found = plan({}, **server).server
    return Place(
        server=found,
        state=state,
        address="10.9.0.1",
        network=ipaddress.IPv4Network("10.9.0.0/24"),
        installer=Path("/srv/installer.efi"),
        releases=releases,
        user="www-data",
    )


def lines(text: str) -> set[str]:
    return set(text.splitlines())


def test_a_private_network_gets_addresses_and_each_firmware_its_file() -> None:
    addresses = "10.9.0.100 - 10.9.0.200"
    made = place(dhcp="full", range=addresses, gateway="10.9.0.254", dns=["10.9.0.3"])
    found = lines(dnsmasq(made))
    assert {
        "port=0",
        "interface=eth1",
        "dhcp-range=10.9.0.100,10.9.0.200,255.255.255.0,1h",
        "dhcp-authoritative",
        "dhcp-option-force=tag:http,option:vendor-class,HTTPClient",
        "dhcp-boot=tag:http,http://10.9.0.1/boot/installer.efi",
        "dhcp-boot=tag:ipxe,http://10.9.0.1/boot/boot.ipxe",
        "dhcp-boot=tag:efi,tag:!ipxe,snponly.efi,,10.9.0.1",
        "dhcp-option=option:router,10.9.0.254",
        "dhcp-option=option:dns-server,10.9.0.3",
    } <= found


def test_a_private_network_without_a_router_names_none() -> None:
    found = lines(dnsmasq(place(dhcp="full", range="10.9.0.100-10.9.0.200", port=8080)))
    assert {"dhcp-option=option:router", "dhcp-option=option:dns-server"} <= found
    assert "dhcp-boot=tag:http,http://10.9.0.1:8080/boot/installer.efi" in found


def test_beside_another_server_no_address_is_given() -> None:
    text = dnsmasq(place(dhcp="proxy"))
    assert {
        "dhcp-range=10.9.0.0,proxy,255.255.255.0",
        "pxe-service=tag:!ipxe,X86-64_EFI,imgbuild,snponly.efi,10.9.0.1",
        "pxe-service=tag:!ipxe,BC_EFI,imgbuild,snponly.efi,10.9.0.1",
        "dhcp-ignore=tag:http",
    } <= lines(text)
    assert "authoritative" not in text
    assert text.count("dhcp-range") == 1


def test_nginx_hands_out_files_and_logs_no_tokens() -> None:
    text = nginx(place())
    assert "user www-data;\n" in text
    assert "listen 10.9.0.1:80;" in text
    assert "alias /srv/rel/;" in text
    assert re.search(r"location = /boot\.efi \{\s+internal;\s+alias /srv/installer\.efi;", text)
    assert "sendfile on;" in text
    logged = re.search(r"log_format plain '(.*)'", text)
    assert logged
    assert "$uri" in logged[1]
    assert not {"$request ", "$args", "$request_uri"} & set(logged[1].split())
    assert "/releases/" not in nginx(place(releases=None))


@pytest.mark.parametrize("name", ["a b", "a;b", "a{b", "a$b", "a'b", "a\nb"])
def test_a_path_that_would_be_words_of_nginx_is_refused(name: str) -> None:
    with pytest.raises(UserError, match="cannot stand in nginx's configuration"):
        nginx(place(releases=Path("/srv") / name))


def test_releases_may_be_somewhere_else() -> None:
    assert place().releases_address == "http://10.9.0.1/releases"
    server = plan({}, **{**SERVER, "releases": "https://r.example.net/x/"}).server
    assert not server.releases_are_here
    far = dataclasses.replace(place(releases=None), server=server)
    assert far.releases_address == "https://r.example.net/x"


def test_ipxe_says_who_it_is_and_keeps_the_sealed_command_line() -> None:
    first = ipxe.first("http://10.9.0.1")
    assert first.startswith("#!ipxe\n")
    for word in ("mac=${netX/mac:hexhyp}", "uuid=${uuid}", "serial=${serial:uristring}"):
        assert word in first
    script = ipxe.install("http://10.9.0.1")
    assert script.splitlines()[:2] == [
        "#!ipxe",
        "set ctl:hex 01",
    ]
    assert "kernel --name ${ctl:string} http://10.9.0.1/boot/installer.efi" in script
    assert ipxe.disk() == "#!ipxe\nexit 1\n"


def _discover(arch: int = 16, vendor: bytes = b"HTTPClient:Arch:00016", kind: int = 1) -> bytes:
    mac = bytes.fromhex(MAC.replace(":", ""))
    fixed = struct.pack(">BBBBIHH", 1, 1, 6, 0, 0xABCD, 0, 0) + bytes(16) + mac + bytes(202)
    options = bytes([53, 1, kind, 60, len(vendor)]) + vendor + bytes([0, 93, 2, 0, arch])
    return fixed + b"\x63\x82\x53\x63" + options + bytes([97, 3, 0, 7, 7, 255])


def test_http_boot_is_offered_the_address_of_the_installer_and_no_ip() -> None:
    asked = httpclient.parse(_discover())
    assert asked
    assert asked.mac == MAC
    made = httpclient.offer(asked, "10.9.0.1", "http://10.9.0.1/boot/installer.efi")
    assert made[0] == 2
    assert made[4:8] == bytes([0, 0, 0xAB, 0xCD])
    assert made[16:20] == bytes(4)
    assert made[20:24] == bytes([10, 9, 0, 1])
    assert made[28:34].hex(":") == MAC
    options = made[240:]
    for part in (
        b"\x35\x01\x02",
        b"\x3c\x0aHTTPClient",
        b"\x43\x22http://10.9.0.1/boot",
        b"\x61\x03",
    ):
        assert part in options
    assert options.endswith(b"\xff")


@pytest.mark.parametrize(
    "data",
    [
        b"", bytes(300), _discover(arch=7), _discover(arch=19), _discover(vendor=b"PXEClient"),
        _discover(kind=3), b"\x02" + _discover()[1:], _discover()[:236] + bytes(60),
        _discover()[:241], _discover()[:243] + b"\xff",
    ],
)  # fmt: skip
def test_all_else_is_left_to_others(data: bytes) -> None:
    assert httpclient.parse(data) is None


def test_options_that_are_cut_off_do_no_harm() -> None:
    whole = _discover()
    for length in range(240, len(whole)):
        httpclient.parse(whole[:length])


def test_another_server_is_known_by_its_offer_of_an_address() -> None:
    xid = bytes([0, 0, 0xAB, 0xCD])
    asked = probe.discover(xid)
    assert asked[:8] == bytes([1, 1, 6, 0]) + xid
    assert asked[236:] == b"\x63\x82\x53\x63\x35\x01\x01\xff"
    head = bytes([2, 1, 6, 0]) + xid + bytes(8)
    tail = bytes(216) + b"\x63\x82\x53\x63\x35\x01\x02\x36\x04\x0a\x09\x00\x02\xff"
    offer = head + bytes([10, 9, 0, 100]) + tail
    assert probe.offering(offer, xid) == "10.9.0.2"
    assert probe.offering(head + bytes(4) + tail, xid) is None  # a proxy gives no address
    assert probe.offering(offer, b"else") is None
    for length in range(len(offer) - 2):
        assert probe.offering(offer[:length], xid) is None


def test_a_neighbour_is_known_by_its_card(tmp_path: Path) -> None:
    table = tmp_path / "arp"
    table.write_text(
        "IP address       HW type     Flags       HW address            Mask     Device\n"
        f"10.9.0.50        0x1         0x2         {MAC}     *        eth1\n"
        "10.9.0.51        0x1         0x0         00:00:00:00:00:00     *        eth1\n"
    )
    assert net.neighbour("10.9.0.50", table).macs == (MAC,)
    for other in ("10.9.0.51", "10.9.0.5", ""):
        assert not net.neighbour(other, table).words
    assert not net.neighbour("10.9.0.50", tmp_path / "missing").words
