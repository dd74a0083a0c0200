"""What a node admits: ports, from outside; roles and their keys; rights; what a container may.

The outside is a network namespace of this host, joined to a second card of the machine.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from testinfra.host import Host

from builder.core.process import Runner
from builder.vm.qemu import SSH_PORT
from builder.vm.session import VmNode
from builder.vm.ssh import Ssh, SshKey
from tests.vm.conftest import ROOT, Image

pytestmark = pytest.mark.vm

NODE_PROFILE = "cpu"  # its seed names no model: nothing is served
SPACE, TAP = "imgscan", "imgscan0"
HERE, THERE = "198.51.100.1", "198.51.100.2"
NODE_EXTRA = (
    *("-netdev", f"tap,id=net1,ifname={TAP},script=no,downscript=no"),
    *("-device", "virtio-net-pci,netdev=net1,romfile=,mac=52:54:00:5e:c0:01"),
)
SCAN = """
import errno, json, resource, select, socket, sys, time
target, ports = sys.argv[1], json.loads(sys.argv[2]) or list(range(1, 65536))
resource.setrlimit(resource.RLIMIT_NOFILE, (6000, 6000))
found = []
for first in range(0, len(ports), 5000):
    poll, waiting = select.epoll(), {}
    for port in ports[first : first + 5000]:
        one = socket.socket(socket.AF_INET6 if ":" in target else socket.AF_INET)
        one.setblocking(False)
        one.connect_ex(socket.getaddrinfo(target, port, type=socket.SOCK_STREAM)[0][4])
        poll.register(one, select.EPOLLOUT)
        waiting[one.fileno()] = (port, one)
    end = time.monotonic() + (3 if len(ports) > 100 else 5)
    while waiting and (left := end - time.monotonic()) > 0:
        for number, _ in poll.poll(left):
            port, one = waiting.pop(number)
            poll.unregister(number)
            if one.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) in (0, errno.ECONNREFUSED):
                found.append(port)  # a refusal is an answer, too
            one.close()
    for _, one in waiting.values():
        one.close()
print(json.dumps(sorted(found)))
"""
SERVER = """
import socketserver, sys, threading
class Empty(socketserver.BaseRequestHandler):
    def handle(self):
        pass
for port in map(int, sys.argv[1:]):
    server = socketserver.TCPServer(("", port), Empty)
    threading.Thread(target=server.serve_forever).start()
"""


def inside(*words: str) -> str:
    argv = ["ip", "netns", "exec", SPACE, *words]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, done.stderr
    return done.stdout


def scan(target: str, *ports: int) -> list[int]:
    """Return the TCP ports that answer, of all that there are or of some."""
    told: list[int] = json.loads(
        inside(sys.executable, "-c", SCAN, target, json.dumps(list(ports)))
    )
    return told


@pytest.fixture(scope="module")
def outside(host: Host) -> Iterator[str]:
    """Join the namespace to the node's second card; give the node's address of IPv6."""
    subprocess.run(["ip", "netns", "delete", SPACE], capture_output=True, check=False)
    try:
        for words in (["netns", "add", SPACE], ["link", "set", TAP, "netns", SPACE]):
            subprocess.run(["ip", *words], check=True)
        for link in ("lo", TAP):
            inside("ip", "link", "set", link, "up")
        inside("ip", "address", "add", f"{HERE}/24", "dev", TAP)
        card = host.check_output("ip -o link | grep -i 52:54:00:5e:c0:01 | cut -d: -f2").strip()
        host.check_output(f"ip address add {THERE}/24 dev {card}")
        six = host.check_output(
            f"ip -6 -o address show dev {card} scope link | grep -o 'fe80[^/]*'"
        )
        yield f"{six}%{TAP}"
    finally:
        subprocess.run(["ip", "netns", "delete", SPACE], capture_output=True, check=False)


@pytest.fixture(scope="module")
def reference(image: Image) -> str:
    """Give the name of the version's own container image, which has a Python."""
    container = image.manifest.payload.container
    assert container is not None
    return f"{container.repository}:{container.tag}"


@pytest.fixture(scope="module")
def box(host: Host, reference: str) -> str:
    """Start a container that publishes two ports, under the profile of the inference server."""
    host.check_output(
        "docker run -d --name box --cap-drop=ALL --read-only --security-opt no-new-privileges"
        " --security-opt apparmor=imgnode-vllm --user=970 -p 8000:8000 -p 9999:9999"
        " --entrypoint=python3 %s -c %s 8000 9999",
        reference,
        SERVER,
    )
    return "box"


def test_of_all_ports_only_the_declared_ones_answer(host: Host, outside: str, box: str) -> None:
    """Docker publishes 9999, and the node itself listens on 5555: neither is declared."""
    host.check_output("systemd-run --unit=stray python3 -c %s 5555", SERVER)
    stray = (22, 5555, 8000, 9999)
    assert scan("::1", 1) == [1]  # a scan that sees nothing would show nothing
    assert scan(THERE) == [22, 8000], box
    assert scan(outside, 22, 111, 2375, 5355, 5555, 8000, 9100, 9999) == [22, 8000]
    host.check_output("nft delete table inet imgnode")
    assert scan(THERE, *stray, 5556) == sorted([*stray, 5556])
    host.check_output("systemctl reload nftables && systemctl stop stray")
    assert scan(THERE, *stray) == [22, 8000]


def test_a_container_keeps_to_its_profile(host: Host, box: str, reference: str) -> None:
    assert "imgnode-vllm (enforce)" in host.check_output(
        f"docker exec {box} python3 -c %s", "print(open('/proc/self/attr/current').read())"
    )
    run = (
        "docker run --rm --user=0 --workdir=/ --cap-add=NET_RAW --security-opt apparmor=%s"
        f" --entrypoint=python3 {reference} -c %s"
    )
    packet = "import socket; socket.socket(socket.AF_PACKET, socket.SOCK_RAW)"
    refused = host.run(run, "imgnode-vllm", packet)
    assert "PermissionError" in refused.stderr
    assert host.run(run, "docker-default", packet).rc == 0
    files = "open('/x', 'w').write('x'); print(open('/x').read())"
    assert host.run(run, "imgnode-vllm", files).stdout == "x\n"


def ssh_as(user: str, node: VmNode, runner: Runner, folder: Path) -> Ssh:
    key = SshKey(node.disk.parent / "key/id_ed25519", node.key)
    return Ssh(runner, folder / user, port=node.machine.ports[SSH_PORT], key=key, user=user)


def test_no_password_and_no_root(up: VmNode, runner: Runner, tmp_path: Path) -> None:
    for user, options in (
        ("admin", "-o PubkeyAuthentication=no -o PreferredAuthentications=password"),
        ("admin", "-o PubkeyAuthentication=no -o PreferredAuthentications=keyboard-interactive"),
        ("root", ""),
    ):
        config = ssh_as(user, up, runner, tmp_path).config
        argv = ["ssh", "-F", str(config), *options.split(), "node", "true"]
        done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=120)
        assert done.returncode == 255
        assert "Permission denied (publickey)" in done.stderr


def test_an_operator_may_do_a_short_list_of_things(
    up: VmNode, host: Host, runner: Runner, tmp_path: Path
) -> None:
    host.check_output("echo %s > /etc/ssh/authorized_keys.d/operator", up.key)
    operator = ssh_as("operator", up, runner, tmp_path)
    assert operator.run("sudo -n imgnode status").rc == 0
    assert operator.run("sudo -n systemctl stop vllm.service").rc == 0
    assert "sshd" in operator.run("journalctl -b -t sshd -n 5 --no-pager").stdout
    for command in ("cat /etc/shadow", "bash", "systemctl status", "imgnode etc save"):
        assert operator.run(f"sudo -n {command} < /dev/null").rc != 0, command
    for command in ("docker ps", "dmesg", "cat /etc/sudoers.d/operator", "su -c true"):
        assert operator.run(command).rc != 0, command
    record = host.check_output("journalctl -b --no-pager -t sshd -t sudo")
    assert "Accepted publickey for operator" in record
    assert "COMMAND=/usr/bin/systemctl stop vllm.service" in record
    assert host.file("/var/log/wtmp").exists


def test_monitoring_looks_and_has_no_shell(
    up: VmNode, host: Host, runner: Runner, tmp_path: Path
) -> None:
    host.check_output("echo %s > /etc/ssh/authorized_keys.d/monitoring", up.key)
    told = ssh_as("monitoring", up, runner, tmp_path).run("bash -c id").stdout
    assert json.loads(told)["image_id"] == f"imgbuild-{NODE_PROFILE}"
    assert host.run("sudo -u monitoring sudo -n true").rc != 0


def test_rights_are_those_of_the_list(host: Host) -> None:
    listed = (ROOT / "image/setuid.conf").read_text().splitlines()
    kept = sorted(line.split()[1] for line in listed if line.startswith("keep"))
    found = host.check_output("find / -xdev -type f -perm /6000").split()
    look = "import os; print(*(n for n in os.listdir() if os.listxattr(n, follow_symlinks=False)))"
    names = host.check_output("cd /usr/bin && python3 -c %s", look).split()
    found += [f"/usr/bin/{name}" for name in names]
    assert sorted(found) == kept


def path(sysctl: str) -> str:
    return f"/proc/sys/{sysctl.replace('.', '/')}"


def test_the_kernel_keeps_to_the_overlay(host: Host) -> None:
    text = (ROOT / "overlays/security/usr/lib/sysctl.d/99-zz-imgnode.conf").read_text()
    lines = [line.lstrip("-") for line in text.splitlines() if " = " in line]
    for name, wanted in (line.split(" = ") for line in lines):
        assert host.check_output("cat %s", path(name)).strip() == wanted, name
    assert host.check_output("cat %s", path("net.ipv4.ip_forward")) == "1"
    assert host.run("modprobe dccp").rc != 0
    assert host.run("modprobe sctp").rc != 0


def test_nothing_failed(host: Host) -> None:
    assert host.check_output("systemctl --failed --no-legend --plain") == ""
    for unit in ("nftables", "imgnode-apparmor"):
        assert host.service(unit).is_running
