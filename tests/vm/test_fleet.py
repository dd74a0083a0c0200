"""Real nodes, reached by `imgbuild fleet` over SSH, behind the HAProxy of their inventory.

Three of them, or FLEET_NODES (at least two).
The container is the small box with a stand-in server; one file, in order.
"""

from __future__ import annotations

import json
import os
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from builder.core.files import remove_tree
from builder.core.process import Runner
from builder.vm.keep import keep_evidence, keeping
from builder.vm.qemu import Accel, HostService
from builder.vm.session import VmNode, VmSize, start_node
from builder.vm.ssh import make_key
from tests.build.boxed import add_node
from tests.vm.conftest import FOLDER, ROOT
from tests.vm.fleet import MODEL, Site, address, asking, card, network, proxied
from tests.vm.releases import Releases
from tests.vm.versions import SERVER, Versions, make_versions

pytestmark = [pytest.mark.vm, pytest.mark.long, pytest.mark.timeout(5400)]

FIRST, SECOND, PANIC = "2099.1", "2099.2", "2099.3"
NAMES = tuple(f"gpu-{n:02}" for n in range(1, int(os.environ.get("FLEET_NODES", "3")) + 1))
PANICS = "kernel:\n  cmdline: [console=ttyS0, panic=10, rdinit=/nowhere]\n"
SIZE = VmSize(cpus=1, memory_mib=1536)  # three of them share two processors
SLOW_S = 1800.0
LOGS = ROOT / "out/failed-tests/tests.vm.test_fleet"


@pytest.fixture(scope="module")
def versions(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Versions]:
    """Release a first version that serves."""
    made = make_versions(ROOT, tmp_path_factory.mktemp("fleet"), FOLDER.parent, "boxed")
    try:
        bring_out(made, FIRST)
        yield made
    finally:
        remove_tree(made.place.top)


def bring_out(versions: Versions, version: str, more: str = "") -> None:
    """Build and release a version whose profile says a little more."""
    add_node(versions.place, more=more)
    versions.place.write("overlays/base/etc/motd", f"version {version}\n")
    versions.build(version)
    versions.release(version)


@pytest.fixture(scope="module")
def site(
    request: pytest.FixtureRequest,
    runner: Runner,
    versions: Versions,
    accel: Accel,
) -> Iterator[Site]:
    """Give three nodes that serve the first version; their seeds come from the inventory."""
    made = write_site(runner, versions.place.top / "site")
    disk = versions.place.top / "images" / FIRST / "disk.raw"
    with ExitStack() as stack:
        stack.enter_context(network(made.top, len(NAMES)))
        server = stack.enter_context(Releases(versions.repository))
        services = (HostService(SERVER, 80, server.port),)
        for number, name in enumerate(NAMES):
            seed = (made.top / "seeds" / name / "user-data").read_text()
            made.nodes[name] = stack.enter_context(
                start_node(
                    runner, disk, seed, FOLDER,
                    accel=accel, size=SIZE, services=services, extra=card(number),
                )
            )  # fmt: skip
            node = made.nodes[name]
            stack.enter_context(keeping(node.machine, node.ssh, LOGS / name))
        lines = [f"{address(n)} {host_key(made.nodes[name])}" for n, name in enumerate(NAMES)]
        (made.top / "known_hosts").write_text("\n".join(lines) + "\n")
        wait_serving(made)
        yield made
        if request.session.testsfailed:
            for name, node in made.nodes.items():
                print(keep_evidence(node.machine, node.ssh, LOGS / name))


def write_site(runner: Runner, top: Path) -> Site:
    """Write an inventory, and have the seeds rendered from it."""
    site = Site(top)
    key = make_key(runner, top / "key")
    values = {
        "hosts": {name: {"ansible_host": address(n)} for n, name in enumerate(NAMES)},
        "vars": {
            "inference": {"model": MODEL},
            "seed": {"ssh_authorized_keys": [key.public]},
            "ansible_ssh_private_key_file": str(key.private),
            # Emulated processors, three machines on two of them.
            "ansible_ssh_timeout": 120,
            "fleet_ask_s": 600,
            "fleet_boot_s": int(SLOW_S),
            "fleet_looks": 360,
        },
    }
    (top / "inventory.yml").write_text(json.dumps({"all": values}))
    done = site.call("seeds", "-o", str(top / "seeds"))
    assert done.returncode == 0, done.stderr
    return site


def host_key(node: VmNode) -> str:
    """Return the key that a node shows on its console when it boots for the first time."""
    return node.machine.wait_for(r"ssh-ed25519 \S{60,}", SLOW_S).text


def wait_serving(site: Site) -> None:
    """Wait until every node serves and its version is good, as `imgbuild fleet` sees it."""
    deadline = time.monotonic() + SLOW_S
    while True:
        nodes = json.loads(site.call("status", "--json").stdout)["nodes"]
        if all(one["serving"] == MODEL and one["level"] not in ("", "failed") for one in nodes):
            return
        assert time.monotonic() < deadline, nodes
        time.sleep(10)


def boots(site: Site) -> dict[str, str]:
    """Return what tells one boot of a node from another."""
    asked = "cat /proc/sys/kernel/random/boot_id"
    return {name: node.ssh.run(asked, 300).stdout for name, node in site.nodes.items()}


def audit(node: VmNode) -> list[str]:
    """Return what was noted on a node."""
    done = node.ssh.run("sudo journalctl -t imgbuild-fleet -o cat --no-pager", 300)
    return [line for line in done.stdout.splitlines() if line.startswith("roll")]


def test_a_good_version_goes_everywhere_and_no_request_fails(
    site: Site, versions: Versions
) -> None:
    bring_out(versions, SECOND)
    began = time.monotonic()
    with proxied(site) as port, asking(port) as answers:
        done = site.call("rollout", SECOND, "--soak", "30", "--waves", "100%")
        time.sleep(10)
    print(f"three nodes have it after {time.monotonic() - began:.0f} s: {Counter(answers)}")
    assert done.returncode == 0, done.stderr
    assert site.outcomes() == dict.fromkeys(NAMES, "updated")
    assert site.versions() == dict.fromkeys(NAMES, SECOND)
    assert set(answers) == {200}
    assert len(answers) > 100
    for node in site.nodes.values():
        (line,) = audit(node)
        assert line.endswith(f": take {SECOND}")


def test_a_bad_version_halts_after_the_canary_and_the_others_never_hear_of_it(
    site: Site, versions: Versions
) -> None:
    bring_out(versions, PANIC, PANICS)
    before = boots(site)
    with proxied(site) as port, asking(port) as answers:
        done = site.call("rollout", PANIC, "--soak", "30", "--waves", "100%")
    assert done.returncode == 1, done.stderr
    assert site.outcomes() == {**dict.fromkeys(NAMES, "waiting"), NAMES[0]: "bad"}
    assert "did not become good" in done.stdout
    assert site.versions() == dict.fromkeys(NAMES, SECOND)
    assert set(answers) == {200}
    after = boots(site)
    assert [name for name in NAMES if after[name] != before[name]] == [NAMES[0]]
    assert [len(audit(node)) for node in site.nodes.values()] == [2, *[1] * (len(NAMES) - 1)]


def test_a_node_with_another_key_than_the_noted_one_is_not_believed(site: Site) -> None:
    other = site.top / "other"
    other.mkdir()
    inventory = json.loads((site.top / "inventory.yml").read_text())
    inventory["all"]["vars"]["ansible_ssh_args"] = "-o ControlPath=none"  # no open connection
    (other / "inventory.yml").write_text(json.dumps(inventory))
    first = (site.top / "known_hosts").read_text().splitlines()[0]
    swapped = f"{first}\n{address(1)} {first.split(maxsplit=1)[1]}\n"
    (other / "known_hosts").write_text(swapped)
    done = site.call("status", "--json", inventory="other/inventory.yml")
    assert done.returncode == 1
    answers = {one["name"]: one["answers"] for one in json.loads(done.stdout)["nodes"]}
    assert answers == {**dict.fromkeys(NAMES, False), NAMES[0]: True}
