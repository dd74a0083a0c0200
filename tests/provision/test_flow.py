"""What machines are told, over the network and through nginx; and what survives a kill."""

from __future__ import annotations

import json
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

import pytest

from imgnode.install.order import parse_order
from imgnode.install.report import Identity, Reporter
from tests.provision.conftest import open_folder
from tests.provision.lan import Host, lan
from tests.provision.server import INSTALLER, ROOT, Server, curl, running, write

PLAIN, SECRET = "52:54:00:00:00:07", "52:54:00:00:00:08"
ADDRESS = "10.9.0.1"
_UUID = "4c4c4544-0000-1111-2222-333333333333"


@pytest.fixture
def hosts() -> Iterator[dict[str, Host]]:
    with lan(srv=f"{ADDRESS}/24", cli="10.9.0.50/24", two="10.9.0.51/24") as made:
        yield made


@pytest.fixture
def folder() -> Iterator[Path]:
    with open_folder() as made:
        yield made


@pytest.fixture
def server(hosts: dict[str, Host], folder: Path) -> Iterator[Server]:
    nodes = {
        "gpu-07": {"mac": PLAIN, "seed": "plain.yaml"},
        "gpu-08": {"mac": SECRET, "seed": "secret.yaml"},
        "gpu-09": {"mac": hosts["two"].mac},
        "gpu-10": {"serial": "S10", "seed": "missing.yaml"},
        "gpu-11": {"serial": "S11", "version": "2026.11.1"},
    }
    write(folder, {"interface": "eth0", "dhcp": "off"}, nodes)
    with running(hosts["srv"], folder, ADDRESS) as made:
        yield made


def _order(host: Host, query: str) -> tuple[int, str]:
    return curl(host, f"http://{ADDRESS}/order?{query}")


def _post(host: Host, address: str, phase: str, **more: object) -> int:
    said = {"schema_version": 1, "node": {}, "phase": phase, "error": None, **more}
    return curl(host, address, "-d", json.dumps(said))[0]


def _node(host: Host, name: str) -> dict[str, Any]:
    status, body = curl(host, f"http://{ADDRESS}/api/nodes/{name}")
    assert status == 200, body
    found: dict[str, Any] = json.loads(body)
    return found


def _run(server: Server, *words: str) -> str:
    argv = [str(ROOT / ".venv/bin/imgbuild"), "orders", *words, f"--state={server.state}"]
    return server.host.run(*argv).strip()


def test_an_unknown_machine_waits_and_is_listed(server: Server, hosts: dict[str, Host]) -> None:
    status, body = _order(hosts["cli"], f"serial=X9&uuid={_UUID}&mac=52:54:00:00:00:99")
    assert (status, body) == (404, "this machine is not in the inventory: nothing is done to it\n")
    found = _node(hosts["cli"], _UUID)
    assert (found["state"], found["serial"]) == ("waiting", "X9")
    assert curl(hosts["cli"], f"http://{ADDRESS}/boot/installer.efi", "-o", "/dev/null")[0] == 200
    # Its owner writes it into the plan; the server takes it as it runs.
    plan = server.folder / "plan.yaml"
    plan.write_text(plan.read_text() + f"  new-01:\n    uuid: {_UUID}\n")
    ends = time.monotonic() + 20
    while _order(hosts["cli"], f"uuid={_UUID}")[0] != 200:
        assert time.monotonic() < ends, server.said()
        time.sleep(0.3)
    assert curl(hosts["cli"], f"http://{ADDRESS}/api/nodes/{_UUID}")[0] == 404
    plan.write_text("server: [")
    time.sleep(2.5)
    assert "NOT taken" in server.said()
    assert _order(hosts["cli"], f"uuid={_UUID}")[0] == 200


def test_an_installation_from_order_to_done(server: Server, hosts: dict[str, Host]) -> None:
    status, body = _order(hosts["cli"], f"mac={PLAIN}&serial=S7")
    assert status == 200
    order = parse_order(body)
    assert (order.image_id, order.releases) == ("imgbuild-cpu", f"http://{ADDRESS}/releases")
    assert order.report
    assert order.seed["user-data"].startswith("#cloud-config\nhostname: gpu-07")
    assert _post(hosts["cli"], order.report, "root.erofs", done=50, total=200) == 204
    found = _node(hosts["cli"], "gpu-07")
    assert (found["state"], found["phase"], found["percent"]) == ("installing", "root.erofs", 25)
    error = {"kind": "network", "text": "the link is down"}
    assert _post(hosts["cli"], order.report, "failed", error=error) == 204
    assert _node(hosts["cli"], "gpu-07")["why"] == "network: the link is down"
    again = parse_order(_order(hosts["cli"], f"mac={PLAIN}")[1])
    assert again.report == order.report
    assert _post(hosts["cli"], f"{order.report}x", "done") == 404
    assert _post(hosts["cli"], order.report, "done", version="2026.11.1") == 204
    assert _node(hosts["cli"], "gpu-07")["state"] == "done"
    assert _order(hosts["cli"], f"mac={PLAIN}")[0] == 409
    script = curl(hosts["cli"], f"http://{ADDRESS}/boot/machine.ipxe?mac={PLAIN}")[1]
    assert script == "#!ipxe\nexit 1\n"
    _run(server, "again", str(server.folder / "plan.yaml"), "gpu-07")
    assert _order(hosts["cli"], f"mac={PLAIN}")[0] == 200


def test_secrets_need_a_token_which_is_good_once(server: Server, hosts: dict[str, Host]) -> None:
    client, plan = hosts["cli"], str(server.folder / "plan.yaml")
    who = f"mac={SECRET}&serial=S8"
    status, body = _order(client, who)
    assert (status, "needs a token" in body) == (403, True)
    assert "horse" not in body
    assert _node(client, "gpu-08")["state"] == "held"
    old, token = (_run(server, "token", plan, "gpu-08") for _ in range(2))
    assert _order(client, f"{who}&token={old}")[0] == 403
    assert _order(client, f"mac={PLAIN}&token={token}")[0] == 200  # needs none, learns nothing
    status, body = _order(client, f"{who}&token={token}")
    assert (status, "correct-horse" in body) == (200, True)
    assert _order(client, f"{who}&token={token}")[0] == 200  # cut off, and asks again
    thief = _order(hosts["two"], f"token={token}&mac={SECRET}&serial=S8&uuid={_UUID}")
    assert thief[0] == 200  # who knows all that the machine knows is the machine
    report = parse_order(body).report
    assert report
    assert _post(client, report, "done") == 204
    _run(server, "again", plan, "gpu-08")
    status, body = _order(client, f"{who}&token={token}")
    assert (status, "was used" in body) == (403, True)
    for file in (server.state / "tokens").iterdir():
        assert token not in file.read_text()
    assert token not in (server.state / "run/access.log").read_text()
    listed = curl(client, f"http://{ADDRESS}/api/nodes")[1]
    assert token not in listed
    assert "correct-horse" not in listed


def test_what_cannot_be_installed_is_held(server: Server, hosts: dict[str, Host]) -> None:
    status, body = _order(hosts["cli"], "serial=S10")
    assert (status, "missing.yaml: cannot be read" in body) == (409, True)
    status, body = _order(hosts["cli"], "serial=S11")
    assert (status, "gpu-11 wants 2026.11.1" in body) == (409, True)
    assert _node(hosts["cli"], "gpu-11")["state"] == "held"
    assert "gpu-10 will be held" in server.said()


def test_a_machine_that_says_nothing_is_known_by_its_card(
    server: Server, hosts: dict[str, Host]
) -> None:
    del server
    address = f"http://{ADDRESS}/boot/installer.efi"
    status, body = _order(hosts["two"], "")
    assert status == 200
    assert curl(hosts["two"], address, "-o", "/dev/null")[0] == 200
    report = parse_order(body).report
    assert report
    assert _post(hosts["two"], report, "done") == 204
    assert curl(hosts["two"], address, "-o", "/dev/null")[0] == 404  # on to its disk
    assert curl(hosts["two"], address, "-I")[0] == 404
    assert curl(hosts["cli"], address, "-o", "/dev/null")[0] == 200


def test_changes_need_the_admin_token(server: Server, hosts: dict[str, Host]) -> None:
    address = f"http://{ADDRESS}/api/nodes/gpu-07"
    for path in ("again", "token"):
        assert curl(hosts["cli"], f"{address}/{path}", "-X", "POST")[0] == 401
    token = (server.state / "admin-token").read_text().strip()
    words = ("-X", "POST", "-H", f"Authorization: Bearer {token}")
    assert curl(hosts["cli"], f"{address}/again", *words)[0] == 200
    assert curl(hosts["cli"], f"http://{ADDRESS}/api/nodes/nobody/again", *words)[0] == 409


def test_a_killed_server_knows_all_when_it_is_back(server: Server, hosts: dict[str, Host]) -> None:
    client = hosts["cli"]
    report = parse_order(_order(client, f"mac={PLAIN}")[1]).report
    assert report
    assert _post(client, report, "root.erofs", done=50, total=200, version="1") == 204
    _order(client, "serial=X9")
    server.kill()
    with running(server.host, server.folder, ADDRESS) as back:
        found = _node(client, "gpu-07")
        assert (found["state"], found["phase"], found["percent"]) == (
            "installing",
            "root.erofs",
            25,
        )
        assert _node(client, "X9")["state"] == "waiting"
        assert _post(client, report, "done", version="1") == 204
        assert _node(client, "gpu-07")["state"] == "done"
        argv = [
            "timeout",
            "50",
            str(ROOT / ".venv/bin/imgbuild"),
            "serve",
            str(back.folder / "plan.yaml"),
        ]
        said = server.host.run(*argv, f"--state={back.state}", ok=False)
        assert "another server works with it (hint: " in said


def test_the_installers_own_reporter_is_understood(
    server: Server, hosts: dict[str, Host], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its bodies are caught where they are made, and sent from within the namespace."""
    del server
    bodies: list[bytes] = []

    def catch(request: urllib.request.Request, timeout: float) -> NoReturn:
        del timeout
        assert isinstance(request.data, bytes)
        bodies.append(request.data)
        raise OSError("caught")

    monkeypatch.setattr("urllib.request.urlopen", catch)
    report = parse_order(_order(hosts["cli"], f"mac={PLAIN}")[1]).report
    who = Identity("S7", _UUID, (PLAIN,))
    reporter = Reporter(report, who, lambda _: None, "2026.11.1", "nvme0n1 MODEL S")
    reporter.begin("root.verity", 1000)(500)
    reporter.end("disk", "no disk fits")
    assert report
    statuses = [curl(hosts["cli"], report, "-d", one.decode())[0] for one in bodies]
    assert set(statuses) == {204}
    found = _node(hosts["cli"], "gpu-07")
    assert (found["state"], found["phase"]) == ("failed", "root.verity")
    assert found["why"] == "disk: no disk fits"
    assert found["disk"] == "nvme0n1 MODEL S"


def test_a_port_that_is_taken_is_told(server: Server, hosts: dict[str, Host]) -> None:
    argv = [
        "timeout",
        "50",
        str(ROOT / ".venv/bin/imgbuild"),
        "serve",
        str(server.folder / "plan.yaml"),
    ]
    said = hosts["srv"].run(*argv, f"--state={server.folder}/other", ok=False)
    assert "imgbuild: nginx does not stay up" in said
    assert "Address already in use" in said


# A namespace has no networkd that could say that it is online.
READS_ORDER = """\
import pathlib, sys
from imgnode import process
from imgnode.install import __main__ as install

run = process.run
process.run = lambda argv, **more: run(["true"] if "online" in argv[0] else argv, **more)
print(install.read_order(pathlib.Path(sys.argv[1])).image_id)
"""


def test_the_installers_own_program_reads_its_order(server: Server, hosts: dict[str, Host]) -> None:
    root = server.folder / "root"
    (root / "proc").mkdir(parents=True)
    (root / "proc/cmdline").write_text(f"quiet imgnode.order={server.base}/order roothash=0\n")
    assert hosts["two"].run(sys.executable, "-c", READS_ORDER, root) == "imgbuild-cpu\n"
    assert _node(hosts["cli"], "gpu-09")["state"] == "ordered"


def test_the_installer_is_what_was_named(server: Server, hosts: dict[str, Host]) -> None:
    curl(hosts["cli"], f"{server.base}/boot/installer.efi", "-o", f"{server.folder}/got")
    assert (server.folder / "got").read_bytes() == INSTALLER
