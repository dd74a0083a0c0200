"""The rendered rules in the kernel: a client, a node and a container, each a network namespace.

The node has rules as Docker makes them: published ports are led on in prerouting, past the
chain of what comes in for the node itself.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from builder.rootfs.overlay import lay_overlay
from tests.unit.fakes import IDENTITY, site, spec

pytestmark = pytest.mark.build
ROOT = Path(__file__).parents[2]
CLIENT, STRANGER, NODE, BOX = "imgfw-client", "imgfw-stranger", "imgfw-node", "imgfw-box"
ALL = (CLIENT, STRANGER, NODE, BOX)
NODE_PORTS, BOX_PORTS = (22, 111, 8000, 9100), (8000, 9999)
PUBLISHED = {8000: 8000, 9998: 9999}
DOCKER = """
table ip nat {
  chain PREROUTING { type nat hook prerouting priority dstnat; policy accept;
    fib daddr type local tcp dport 8000 dnat to 172.18.0.2:8000
    fib daddr type local tcp dport 9998 dnat to 172.18.0.2:9999
  }
}
table ip filter {
  chain FORWARD { type filter hook forward priority filter; policy drop;
    ct state established,related accept
    oifname "br-0123456789ab" accept
    iifname "br-0123456789ab" accept
  }
}
"""
SERVE = """
import json, select, socket, sys
open_ = []
for port in map(int, sys.argv[1:]):
    one = socket.create_server(("::", port), family=socket.AF_INET6, dualstack_ipv6=True)
    open_.append(one)
print("ready", flush=True)
while True:
    for one in select.select(open_, [], [])[0]:
        one.accept()[0].close()
"""
CONNECT = """
import json, socket, sys
from concurrent.futures import ThreadPoolExecutor
def answers(port):
    try:
        socket.create_connection((sys.argv[1], port), timeout=1.5).close()
    except TimeoutError:
        return False
    except ConnectionRefusedError:
        return None
    return True
ports = json.loads(sys.argv[2])
with ThreadPoolExecutor(32) as pool:
    print(json.dumps([p for p, one in zip(ports, pool.map(answers, ports)) if one is not False]))
"""
TRIED = [22, 80, 111, 2375, 8000, 9100, 9998, 9999]


def run(*words: str, stdin: str | None = None) -> str:
    done = subprocess.run(words, input=stdin, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{words}: {done.stderr}"
    return done.stdout


def inside(space: str, *words: str, stdin: str | None = None) -> str:
    return run("ip", "netns", "exec", space, *words, stdin=stdin)


def reached(space: str, address: str) -> list[int]:
    """Return the ports that do not just swallow what is sent to them."""
    told = inside(space, sys.executable, "-c", CONNECT, address, json.dumps(TRIED))
    found: list[int] = json.loads(told)
    return found


def join(first: str, name: str, second: str, other: str) -> None:
    run("ip", "link", "add", name, "netns", first, "type", "veth", "peer", other, "netns", second)
    inside(first, "ip", "link", "set", name, "up")
    inside(second, "ip", "link", "set", other, "up")


def address(space: str, link: str, *addresses: str) -> None:
    for one in addresses:
        nodad = ("nodad",) if ":" in one else ()
        inside(space, "ip", "address", "add", one, "dev", link, *nodad)


@pytest.fixture(scope="module")
def lab() -> Iterator[None]:
    """Give the namespaces with addresses, servers and Docker's rules, but not yet ours."""
    children: list[subprocess.Popen[str]] = []
    for space in ALL:
        subprocess.run(["ip", "netns", "delete", space], capture_output=True, check=False)
    try:
        for space in ALL:
            run("ip", "netns", "add", space)
            inside(space, "ip", "link", "set", "lo", "up")
        for space, number in ((CLIENT, 1), (STRANGER, 2)):
            join(space, "eth0", NODE, f"eth{number}")
            address(space, "eth0", f"192.0.{number}.1/24", f"2001:db8:{number}::1/64")
            address(NODE, f"eth{number}", f"192.0.{number}.9/24", f"2001:db8:{number}::9/64")
        inside(NODE, "ip", "link", "add", "br-0123456789ab", "type", "bridge")
        inside(NODE, "ip", "link", "set", "br-0123456789ab", "up")
        address(NODE, "br-0123456789ab", "172.18.0.1/16")
        join(BOX, "eth0", NODE, "veth0")
        inside(NODE, "ip", "link", "set", "veth0", "master", "br-0123456789ab")
        address(BOX, "eth0", "172.18.0.2/16")
        inside(BOX, "ip", "route", "add", "default", "via", "172.18.0.1")
        inside(NODE, "sysctl", "-qw", "net.ipv4.ip_forward=1")
        inside(NODE, "nft", "-f", "-", stdin=DOCKER)
        for space, ports in ((NODE, NODE_PORTS), (BOX, BOX_PORTS)):
            argv = ["ip", "netns", "exec", space, sys.executable, "-c", SERVE, *map(str, ports)]
            child = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)
            children.append(child)
            assert child.stdout is not None
            assert child.stdout.readline() == "ready\n"
        yield
    finally:
        for child in children:
            child.kill()
            child.wait()
        for space in ALL:
            subprocess.run(["ip", "netns", "delete", space], capture_output=True, check=False)


@pytest.fixture(scope="module")
def guarded(lab: None, tmp_path_factory: pytest.TempPathFactory) -> None:  # noqa: ARG001
    """Load the rules of a node that admits only the client to its server."""
    root = tmp_path_factory.mktemp("root")
    profile = spec().profile.model_copy(update={"overlays": ("base", "container")})
    ours = ["192.0.1.0/24", "2001:db8:1::/64"]
    values = {"profile": profile, "identity": IDENTITY}
    lay_overlay(
        ROOT / "overlays/security",
        root,
        {**values, "site": site(firewall={"serve_from": ours})},
    )
    inside(NODE, "nft", "-f", str(root / "etc/nftables.conf"))


def test_without_our_rules_everything_is_reached(lab: None) -> None:  # noqa: ARG001
    assert set(reached(STRANGER, "192.0.2.9")) == set(TRIED)
    assert set(reached(STRANGER, "2001:db8:2::9")) == set(TRIED)


def test_a_client_reaches_ssh_and_the_server_alone(guarded: None) -> None:  # noqa: ARG001
    assert reached(CLIENT, "192.0.1.9") == [22, 8000]
    assert reached(CLIENT, "2001:db8:1::9") == [22, 8000]


def test_others_reach_ssh_alone(guarded: None) -> None:  # noqa: ARG001
    """Port 8000 is led to the container before the chain of what comes in is asked."""
    assert reached(STRANGER, "192.0.2.9") == [22]
    assert reached(STRANGER, "2001:db8:2::9") == [22]


def test_a_stranger_is_not_led_to_the_container_by_its_own_address(
    guarded: None,  # noqa: ARG001
) -> None:
    inside(STRANGER, "ip", "route", "replace", "172.18.0.0/16", "via", "192.0.2.9")
    assert reached(STRANGER, "172.18.0.2") == []


def test_the_container_reaches_others_but_not_the_node(guarded: None) -> None:  # noqa: ARG001
    inside(CLIENT, "ip", "route", "replace", "172.18.0.0/16", "via", "192.0.1.9")
    assert set(reached(BOX, "192.0.1.1")) == set(TRIED)  # refused by a client that does not listen
    assert reached(BOX, "172.18.0.1") == [22]


def test_loading_them_again_is_no_change(guarded: None) -> None:  # noqa: ARG001
    before = inside(NODE, "nft", "-s", "list", "ruleset")
    listed = inside(NODE, "nft", "-s", "list", "table", "inet", "imgnode")
    inside(NODE, "nft", "-f", "-", stdin=f"table inet imgnode\ndelete table inet imgnode\n{listed}")
    assert inside(NODE, "nft", "-s", "list", "ruleset") == before
    assert "table ip nat" in before
