"""Alerts as a real Alertmanager takes them: Debian's, on loopback."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from imgnode.alert.alert import Alert
from imgnode.alert.batch import write_batch
from imgnode.alert.channels import WEBHOOK
from tests.unit import serve_node

pytestmark = [pytest.mark.build, pytest.mark.long]
PACKAGE = "prometheus-alertmanager"
PORT = 19093
CONFIG = "route: {receiver: nobody}\nreceivers: [{name: nobody}]\n"
UP_S = 60.0


@pytest.fixture(scope="module")
def alertmanager(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Give the address of one that runs."""
    folder = tmp_path_factory.mktemp("alertmanager")
    subprocess.run(["apt-get", "download", PACKAGE], cwd=folder, check=True)
    for package in folder.glob("*.deb"):
        subprocess.run(["dpkg-deb", "-x", package, folder], check=True)
    (folder / "config.yml").write_text(CONFIG)
    words = [
        f"--config.file={folder}/config.yml",
        f"--storage.path={folder}/data",
        f"--web.listen-address=127.0.0.1:{PORT}",
        "--cluster.listen-address=",
    ]
    share = f"{folder}/usr/share"
    box = ["bwrap", "--die-with-parent", "--unshare-pid", "--dev-bind", "/", "/"]
    box += ["--ro-bind", share, "/usr/share"]
    with subprocess.Popen([*box, f"{folder}/usr/bin/{PACKAGE}", *words]) as process:
        address = f"http://127.0.0.1:{PORT}"
        deadline = time.monotonic() + UP_S
        while time.monotonic() < deadline and not answers(f"{address}/-/ready"):
            time.sleep(0.5)
        yield address
        process.terminate()


def answers(url: str) -> bool:
    try:
        return requests.get(url, timeout=5).status_code == 200
    except requests.ConnectionError:
        return False


def alerts(address: str) -> list[dict[str, Any]]:
    told: list[dict[str, Any]] = requests.get(f"{address}/api/v2/alerts", timeout=10).json()
    return told


def deliver(root: Path, alert: Alert) -> None:
    write_batch(WEBHOOK, [alert], root)
    subprocess.run([sys.executable, "-m", "imgnode.alert", WEBHOOK, root], check=True)


def test_it_fires_is_told_again_and_is_over(alertmanager: str, tmp_path: Path) -> None:
    serve_node.make(tmp_path, alerts={"receiver": alertmanager, "mail": None})
    now = time.time()
    labels = {"alertname": "ImgnodeServeStalled", "severity": "critical", "instance": "gpu-07"}
    words = {"summary": "no token for 45 s", "description": "look"}
    for _ in range(2):
        deliver(tmp_path, Alert(labels, words, now - 60))
        (one,) = alerts(alertmanager)
        assert (one["labels"], one["annotations"]) == (labels, words)
        assert one["status"]["state"] == "active"
    deliver(tmp_path, Alert(labels, words, now - 60, now))
    assert alerts(alertmanager) == []
