"""The page in a real Chromium, on a phone and on a desk; SHOTS=FOLDER keeps the pictures."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from imgnode.install.order import parse_order
from tests.provision.chromium import browsing
from tests.provision.lan import Host, lan
from tests.provision.server import Server, curl, running, write

ADDRESS = "10.9.0.1"
_PHONE, _DESK = (390, 844), (1280, 800)
_STATE = "document.querySelector('[data-name=\"{}\"] .state')?.textContent"
_PHASE = "document.querySelector('[data-name=\"{}\"] .phase')?.textContent"
_LIVE = "document.getElementById('link').textContent"
_SCRIPT = "<img src=x onerror=document.title='owned'>"

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(shutil.which("chromium") is None, reason="needs chromium"),
]


@pytest.fixture
def hosts() -> Iterator[dict[str, Host]]:
    with lan(srv=f"{ADDRESS}/24", cli="10.9.0.50/24") as made:
        yield made


@pytest.fixture
def server(hosts: dict[str, Host], folder: Path) -> Iterator[Server]:
    nodes = {f"gpu-{number:02}": {"serial": f"S{number}"} for number in range(1, 9)}
    nodes["gpu-08"]["seed"] = "missing.yaml"
    write(folder, {"interface": "eth0", "dhcp": "off"}, nodes)
    with running(hosts["srv"], folder, ADDRESS) as made:
        yield made


def _order(host: Host, number: int) -> str:
    status, body = curl(host, f"http://{ADDRESS}/order?serial=S{number}")
    assert status == 200
    report = parse_order(body).report
    assert report
    return report


def _post(host: Host, report: str, phase: str, **more: object) -> None:
    body = {"schema_version": 1, "phase": phase, "disk": "nvme0n1 MODEL 1.9T S4YN", **more}
    assert curl(host, report, "-d", json.dumps(body))[0] == 204


def _some_of_each(host: Host) -> str:
    """Bring machines into every state; return where the installing one reports."""
    for number in (1, 2):
        _post(host, _order(host, number), "done", version="20261122-9725b745")
    error = {"kind": "foreign", "text": f"nvme0n1: holds data that is not an image's {_SCRIPT}"}
    _post(host, _order(host, 3), "failed", error=error)
    _order(host, 5)
    curl(host, f"http://{ADDRESS}/order?serial=S8")
    curl(host, f"http://{ADDRESS}/order?serial=CZ2D1X&mac=52:54:00:0a:0b:0c")
    running_ = _order(host, 4)
    _post(host, running_, "root.erofs", done=100, total=1000, version="20261122-9725b745")
    return running_


def test_the_page_shows_each_change_as_it_comes(server: Server, hosts: dict[str, Host]) -> None:
    shots = Path(os.environ.get("SHOTS") or server.folder)
    client = hosts["cli"]
    report = _some_of_each(client)
    with browsing(client, server.folder / "profile", f"{server.base}/") as page:
        page.size(*_DESK, mobile=False)
        page.wait(f"{_STATE.format('gpu-04')} === 'installing'")
        assert page.evaluate(_LIVE) == "live"
        assert page.evaluate("document.querySelectorAll('#machines li').length") == 9
        assert page.evaluate("document.querySelector('#machines li').dataset.name") == "gpu-03"
        assert "10 %" in page.evaluate(_PHASE.format("gpu-04"))
        assert page.fits()
        page.picture(shots / "desk.png")
        _post(client, report, "root.erofs", done=730, total=1000)
        page.wait(f"{_PHASE.format('gpu-04')}.includes('73 %')", 5)
        page.size(*_PHONE, mobile=True)
        page.wait(f"window.innerWidth === {_PHONE[0]}")
        assert page.fits()
        page.picture(shots / "phone.png")
        _post(client, report, "done")
        page.wait(f"{_STATE.format('gpu-04')} === 'done'", 5)
        assert page.evaluate("document.title") == "imgbuild: installations"
        assert page.errors == []
        server.kill()
        page.wait(f"{_LIVE}.startsWith('no connection')")
        with running(server.host, server.folder, ADDRESS):
            page.wait(f"{_LIVE} === 'live'", 30)
            page.wait(f"{_STATE.format('gpu-04')} === 'done'")
    for name in ("desk.png", "phone.png"):
        assert (shots / name).stat().st_size > 10_000
