"""The provisioning file, and which node a machine is."""

from __future__ import annotations

from typing import Any

import pytest

from builder.core.errors import ConfigError
from builder.serve.identity import Identity, make_identity, of_query
from builder.serve.inventory import Found, Inventory
from builder.serve.settings import parse_plan
from tests.unit.provision_desk import MAC, NODES, OTHER, SERVER, UUID, plan, who


def _wrong(values: dict[str, Any]) -> str:
    with pytest.raises(ConfigError) as caught:
        parse_plan("plan.yaml", values)
    return str(caught.value)


def test_a_node_says_otherwise_than_the_defaults() -> None:
    made = parse_plan(
        "plan.yaml",
        {
            "server": SERVER,
            "defaults": {"profile": "a100", "disk": "largest", "wipe": True},
            "nodes": {"a": {"mac": [MAC, OTHER]}, "b": {"serial": "B", "wipe": False}},
        },
    )
    assert made.wanted("a").profile == "a100"
    assert (made.wanted("a").wipe, made.wanted("b").wipe) == (True, False)
    assert made.wanted("b").disk == "largest"
    assert made.nodes["a"].macs == (MAC, OTHER)


@pytest.mark.parametrize(
    ("nodes", "said"),
    [
        ({"a": {"profile": "cpu"}}, "nodes.a: fits no machine (hint: give mac, serial or uuid)"),
        ({"a": {"mac": MAC}}, "nodes.a: has no profile (hint: here, or in defaults)"),
        ({"a": {"mac": 52}}, "nodes.a.mac"),
        ({"a": {"mac": "52:54"}}, "must be a MAC in quotes"),
        ({"a": {"uuid": "x"}}, "nodes.a.uuid: must be a UUID"),
        ({"a": {"serial": "To be filled by O.E.M."}}, "a serial number that no other machine has"),
        ({"a": {"macs": MAC}}, "nodes.a.macs: unknown key"),
        ({"A b": {"mac": MAC}}, "nodes.A b"),
        ({"a": {"mac": MAC, "wipe": "yes"}}, "nodes.a.wipe"),
        (
            {"a": {"mac": MAC, "profile": "x"}, "b": {"mac": MAC.upper(), "profile": "x"}},
            f"nodes.b: mac {MAC} is a's, too",
        ),
    ],
)
def test_what_is_wrong_with_a_node_is_told(nodes: dict[str, Any], said: str) -> None:
    found = _wrong({"server": SERVER, "nodes": nodes})
    assert said in found
    assert all(line.startswith("plan.yaml: ") for line in found.splitlines())


@pytest.mark.parametrize(
    ("server", "said"),
    [
        ({"dhcp": "full"}, "dhcp: full needs range"),
        ({"range": "10.0.0.1-10.0.0.9"}, "range, gateway and dns belong to dhcp: full"),
        ({"dhcp": "full", "range": "10.0.0.9-10.0.0.1"}, "the smaller address first"),
        ({"dhcp": "full", "range": "10.0.0.9"}, "server.range"),
        ({"interface": None}, "interface is needed"),
        ({"interface": "eth1;reboot"}, "server.interface"),
        ({"address": "10.0.0.1\ndhcp-script=/x"}, "server.address"),
        ({"address": "install.example.net"}, "server.address"),
        ({"port": 0}, "server.port"),
        ({"installer": "a\nb"}, "server.installer"),
    ],
)
def test_what_is_wrong_with_the_server_is_told(server: dict[str, Any], said: str) -> None:
    assert said in _wrong({"server": {**SERVER, **server}})


def test_a_machine_is_found_by_whatever_it_is_known_by() -> None:
    inventory = Inventory.of(plan())
    assert inventory.find(who("", "", OTHER, MAC.upper())) == Found("gpu-07")
    assert inventory.find(who("S8", UUID.replace("4", "5"))) == Found("gpu-08")
    assert inventory.find(who("", UUID.upper())) == Found("gpu-09")
    assert inventory.find(who("S9", "", OTHER)) == Found(None)
    assert inventory.find(Identity()) == Found(None)


def test_a_machine_that_could_be_two_nodes_is_none() -> None:
    found = Inventory.of(plan()).find(who("S8", UUID))
    assert found.name is None
    assert set(found.others) == {"gpu-08", "gpu-09"}


def test_a_card_in_another_chassis_is_no_node() -> None:
    nodes = {**NODES, "gpu-11": {"mac": OTHER, "serial": "S11"}}
    inventory = Inventory.of(plan(nodes))
    assert inventory.find(who("", "", OTHER)) == Found("gpu-11")
    assert inventory.find(who("S12", "", OTHER)) == Found(None, ("gpu-11",))


def test_what_a_machine_sends_is_cleaned() -> None:
    found = make_identity(" S1\x1b[31m\n", "nothing", ["00-11-22-33-44-55", "x", 7, None])
    assert found == Identity(serial="S1[31m", uuid="", macs=("00:11:22:33:44:55",))
    for junk in ("Default string", "0", "000000", "None", "", "...", None):
        assert make_identity(junk, "", []) == Identity()
    assert len(make_identity("x" * 999, "", []).serial) == 64
    query = {"serial": ["S1", "S2"], "mac": [MAC, OTHER], "uuid": [UUID], "token": ["t"]}
    assert of_query(query) == Identity(serial="S1", uuid=UUID, macs=(MAC, OTHER))


def test_a_key_is_a_file_name() -> None:
    assert who("S1", UUID, MAC).key == UUID
    assert who("S1", "", MAC).key == MAC.replace(":", "-")
    assert who("../../etc/x").key == "------etc-x"
