"""A node whose exporters a real Prometheus asks from outside, by TLS and with a password."""

from __future__ import annotations

import base64
import crypt
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import requests

from builder.core.files import remove_tree
from builder.core.process import Runner
from builder.model.site import Monitoring
from builder.vm.qemu import Accel
from builder.vm.session import VmNode, VmSize, start_node
from tests.build.command import Place, copy_project
from tests.live.prometheus import Job, Prometheus, running
from tests.unit.exporter_node import PAGE
from tests.vm.conftest import BOOT_S, FOLDER, ROOT, keep_if_failed, wait_settled

pytestmark = [pytest.mark.vm, pytest.mark.long, pytest.mark.timeout(1800)]

PROFILE = """\
extends: bare
description: a node that is watched, without a container
packages:
  roles: [base, boot, seed, ssh, monitoring]
overlays: [base, boot, seed, ssh, monitoring]
"""
SITE = """\
monitoring:
  listen: 0.0.0.0
  peers: [10.0.2.0/24]
"""
NODE, OWN = Monitoring.node_port, Monitoring.imgnode_port
UNITS = {NODE: "prometheus-node-exporter.service", OWN: "imgnode-exporter.service"}
SALT = "$2b$05$" + "a" * 22  # cheap: the processor is emulated
USER, PASSWORD = "prometheus", "not-a-password-of-anybody"
MOST_MEMORY = 25 << 20
VLLM = "systemd-run --unit=standin python3 -m http.server 8000 --directory /run/standin"


@dataclass(frozen=True)
class Keys:
    """A certificate for `gpu-07` and its key."""

    certificate: Path
    key: Path


@dataclass(frozen=True)
class Watched:
    """The node, and how its exporters are asked."""

    node: VmNode
    keys: Keys

    def port(self, there: int) -> int:
        """Return the port of this machine that leads to one of the node."""
        return self.node.machine.ports[there]

    def ask(self, there: int, timeout_s: float = 30) -> requests.Response:
        """Ask for the page by TLS, without a password."""
        at = f"https://127.0.0.1:{self.port(there)}/metrics"
        return requests.get(at, verify=False, timeout=timeout_s)  # noqa: S501 - of another name

    def job(self, name: str, there: int) -> Job:
        trust = {"ca_file": str(self.keys.certificate), "server_name": "gpu-07"}
        user = {"username": USER, "password": PASSWORD}
        more: dict[str, Any] = {"scheme": "https", "tls_config": trust, "basic_auth": user}
        return Job(
            name, self.port(there), {**more, "scrape_timeout": "10s", "scrape_interval": "10s"}
        )

    def sudo(self, command: str) -> str:
        done = self.node.ssh.run(f"sudo {command}", 120)
        assert done.rc == 0, done.stderr
        return done.stdout


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Keys:
    folder = tmp_path_factory.mktemp("keys")
    made = Keys(folder / "tls.crt", folder / "tls.key")
    words = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
    words += ["-nodes", "-subj", "/CN=gpu-07", "-addext", "subjectAltName=DNS:gpu-07"]
    words += ["-days", "2", "-keyout", str(made.key), "-out", str(made.certificate)]
    subprocess.run(words, check=True, capture_output=True)
    return made


def seed(keys: Keys) -> str:
    """Return a seed that brings TLS and a user, and a stand-in's page of vLLM."""
    web = f"""\
tls_server_config: {{cert_file: monitoring.tls.crt, key_file: monitoring.tls.key}}
basic_auth_users: {{{USER}: {crypt.crypt(PASSWORD, SALT)}}}
"""
    files = {
        "/etc/credstore/monitoring.web.yml": web,
        "/etc/credstore/monitoring.tls.crt": keys.certificate.read_text(),
        "/etc/credstore/monitoring.tls.key": keys.key.read_text(),
        "/run/standin/metrics": PAGE,
    }
    lines = ["#cloud-config", "hostname: gpu-07", "write_files:"]
    for path, text in files.items():
        coded = base64.b64encode(text.encode()).decode()
        lines += [f"  - path: {path}", "    permissions: '0600'", "    encoding: b64"]
        lines.append(f"    content: {coded}")
    return "\n".join([*lines, "runcmd:", f"  - {VLLM}", ""])


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Build the image of a site that names who may ask."""
    place = Place(tmp_path_factory.mktemp("watched"))
    copy_project(ROOT, place.project, link=True)
    place.write("config/profiles/watched.yaml", PROFILE)
    site = place.project / "config/sites/debian.yaml"
    site.write_text(site.read_text() + SITE)
    try:
        place.run(
            "build", "--profile", "watched", "--out", str(place.out),
            env={"IMGBUILD_CACHE": str(FOLDER.parent)},
        ).done()  # fmt: skip
        yield place.out / "disk.raw"
    finally:
        remove_tree(place.top)


@pytest.fixture(scope="module")
def watched(
    request: pytest.FixtureRequest, runner: Runner, disk: Path, accel: Accel, keys: Keys
) -> Iterator[Watched]:
    with start_node(
        runner, disk, seed(keys), FOLDER, accel=accel, size=VmSize(), ports=(NODE, OWN)
    ) as started:
        started.machine.wait_for("login:", BOOT_S)
        wait_settled(started)
        yield Watched(started, keys)
        keep_if_failed(request, started)


@pytest.fixture(scope="module")
def prometheus(watched: Watched, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    jobs = watched.job("node", NODE), watched.job("imgnode", OWN)
    with running(tmp_path_factory.mktemp("prometheus"), *jobs) as server:
        yield server


def test_both_exporters_are_scraped(prometheus: Prometheus) -> None:
    prometheus.wait("up == 1", lambda found: len(found) == 2)


def test_the_node_tells_what_it_runs(prometheus: Prometheus, disk: Path) -> None:
    (image,) = prometheus.wait("imgnode_image_info")
    assert image["metric"]["image_id"] == "imgbuild-watched"
    assert image["metric"]["slot"] == "A"
    assert image["metric"]["root_hash"] in (disk.parent / "manifest.json").read_text()
    assert prometheus.value("imgnode_boot_tries_left") == 2


def test_the_text_files_come_with_the_node_exporter(prometheus: Prometheus) -> None:
    assert prometheus.value('imgnode_gate_verdict{class="ok"}') == 1
    assert prometheus.value("imgnode_seed_error") == 0
    assert prometheus.value("node_textfile_scrape_error") == 0
    assert prometheus.query("node_scrape_collector_success{collector='timex'} == 1")


def test_the_rules_have_what_they_need(prometheus: Prometheus) -> None:
    assert 0 < prometheus.value("instance:node_var_available:ratio") <= 1
    assert 0 < prometheus.value("instance:node_memory_available:ratio") < 1
    assert prometheus.query('ALERTS{severity="critical", alertstate="firing"}') == []


def test_a_servers_page_is_passed_on(prometheus: Prometheus) -> None:
    assert prometheus.value("vllm:num_requests_running") == 2
    assert prometheus.value('imgnode_exporter_collector_success{collector="vllm"}') == 1


@pytest.mark.parametrize("there", [NODE, OWN], ids=["node", "imgnode"])
def test_nobody_is_answered_without_tls_and_password(watched: Watched, there: int) -> None:
    assert watched.ask(there).status_code == requests.codes.unauthorized
    at = f"127.0.0.1:{watched.port(there)}/metrics"
    try:
        plain = requests.get(f"http://{at}", auth=(USER, PASSWORD), timeout=30)
    except requests.ConnectionError:
        return
    assert plain.status_code == requests.codes.bad_request


def test_who_is_no_peer_reaches_nothing(watched: Watched) -> None:
    """The host is 10.0.2.2 to the node; without that network in the list it gets no answer."""
    unit = UNITS[OWN]
    watched.sudo(f"systemctl set-property --runtime {unit} IPAddressAllow=")
    watched.sudo(f"systemctl set-property --runtime {unit} IPAddressAllow=localhost")
    try:
        with pytest.raises(requests.RequestException):
            watched.ask(OWN, timeout_s=5)
    finally:
        watched.sudo(f"systemctl revert {unit}")
    assert watched.ask(OWN).status_code == requests.codes.unauthorized


@pytest.mark.parametrize("unit", UNITS.values())
def test_a_killed_exporter_comes_back(watched: Watched, unit: str) -> None:
    before = watched.sudo(f"systemctl show -P MainPID {unit}")
    watched.sudo(f"systemctl kill --signal=KILL {unit}")
    watched.sudo(f"sh -c 'sleep 8; systemctl is-active --wait {unit}'")
    assert watched.sudo(f"systemctl show -P MainPID {unit}") != before


def test_it_costs_little(watched: Watched) -> None:
    """Resident memory of all its processes; the node exporter's is for Debian to make smaller."""
    path = f"/sys/fs/cgroup/system.slice/{UNITS[OWN]}/cgroup.procs"
    told = watched.sudo(f"sh -c 'for p in $(cat {path}); do grep VmRSS /proc/$p/status; done'")
    assert 0 < sum(int(line.split()[1]) << 10 for line in told.splitlines()) <= MOST_MEMORY


def test_it_is_confined(watched: Watched) -> None:
    for unit in UNITS.values():
        told = watched.sudo(f"systemd-analyze security --no-pager {unit}").splitlines()[-1]
        assert float(told.split(":")[-1].split()[0]) <= 2.5, told
        status = f"/proc/$(systemctl show -P MainPID {unit})/status"
        assert watched.sudo(f"sh -c 'grep ^CapBnd: {status}'").split()[1].strip("0") == ""
        assert watched.sudo(f"sh -c 'grep ^Uid: {status}'").split()[1] != "0"
