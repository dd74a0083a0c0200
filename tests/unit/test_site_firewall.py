"""The site's firewall: what its keys take, and what they become on a node."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace

import pytest
from pydantic import ValidationError

from builder.model.site import Firewall
from builder.rootfs.overlay import lay_overlay
from tests.unit.fakes import IDENTITY, site, spec

ROOT = Path(__file__).parents[2]


def rules(root: Path, overlays: tuple[str, ...] = ("base",), **firewall: list[str]) -> str:
    profile = spec().profile.model_copy(update={"overlays": overlays})
    values = {"profile": profile, "site": site(firewall=firewall), "identity": IDENTITY}
    lay_overlay(ROOT / "overlays/security", root, values)
    return (root / "etc/nftables.conf").read_text()


def chain(text: str, name: str) -> list[str]:
    body = re.search(rf"  chain {name} \{{\n(.*?)\n  \}}", text, re.DOTALL)
    assert body is not None
    return [line.strip() for line in body[1].splitlines() if "#" not in line]


def test_networks_are_joined_where_they_overlap() -> None:
    got = Firewall(ssh_from=("10.1.0.0/16", "fd00::/8", "10.1.2.0/24", "192.0.2.7"))
    assert got.ssh_from == ("10.1.0.0/16", "192.0.2.7/32", "fd00::/8")
    assert Firewall().serve_from == ("0.0.0.0/0", "::/0")


@pytest.mark.parametrize("bad", ["10.0.0.1/8", "10.0.0.0/33", "anywhere", "10.0.0.0/8; accept", ""])
def test_what_is_no_network_is_refused(bad: str) -> None:
    with pytest.raises(ValidationError, match="a network is like"):
        Firewall(serve_from=(bad,))


def test_both_chains_drop_what_is_not_named(tmp_path: Path) -> None:
    text = rules(tmp_path, ("base", "container"))
    for name in ("input", "forward"):
        assert "policy drop" in chain(text, name)[0]
        assert chain(text, name)[-1] == "counter drop"


def test_only_named_networks_reach_ssh_and_the_server(tmp_path: Path) -> None:
    text = rules(tmp_path, ("base", "container"), ssh_from=["10.0.0.0/8"], serve_from=["fd00::/8"])
    ports = [line for line in chain(text, "input") if "tcp dport" in line]
    assert ports == [
        "ip saddr 10.0.0.0/8 tcp dport 22 accept",
        "ip6 saddr fd00::/8 tcp dport 8000 accept",
    ]
    assert [line for line in chain(text, "forward") if "saddr" in line] == [
        "ip6 saddr fd00::/8 ct status dnat meta l4proto tcp ct original proto-dst 8000 accept"
    ]


def test_a_node_without_docker_serves_and_forwards_nothing(tmp_path: Path) -> None:
    text = rules(tmp_path)
    assert "8000" not in text
    assert len(chain(text, "forward")) == 1


def test_only_peers_of_the_monitoring_reach_the_exporters(tmp_path: Path) -> None:
    peers = SimpleNamespace(peers=["10.9.0.0/24", "fd09::/64"], node_port=9100, imgnode_port=9101)
    place = SimpleNamespace(firewall=Firewall(), monitoring=peers)
    profile = spec().profile.model_copy(update={"overlays": ("base", "monitoring")})
    values = {"profile": profile, "site": place, "identity": IDENTITY}
    lay_overlay(ROOT / "overlays/security", tmp_path, values)
    text = (tmp_path / "etc/nftables.conf").read_text()
    assert [line for line in chain(text, "input") if "9100" in line] == [
        "ip saddr 10.9.0.0/24 tcp dport { 9100, 9101 } accept",
        "ip6 saddr fd09::/64 tcp dport { 9100, 9101 } accept",
    ]
    assert "9100" not in rules(tmp_path)


def test_loading_it_anew_leaves_dockers_tables_alone(tmp_path: Path) -> None:
    text = rules(tmp_path)
    assert "flush ruleset" not in text
    assert text.index("\ndelete table inet imgnode\n") < text.index("\ntable inet imgnode {\n")
    drop_in = ROOT / "overlays/security/usr/lib/systemd/system/nftables.service.d/50-imgnode.conf"
    assert "\nExecStop=\n" in drop_in.read_text()
    preset = (ROOT / "units/system-preset/00-imgnode.preset").read_text().splitlines()
    assert "enable nftables.service" in preset
