"""Real nodes on a network of their own, `imgbuild fleet` with them, and clients of their proxy."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from builder.vm.errors import VmTimeout
from builder.vm.machine import free_port
from builder.vm.session import VmNode
from tests.vm.conftest import ROOT

MODEL = "org/toy"
_BRIDGE = "imgfleet"
_HERE, _NODE = "198.51.100.1", "198.51.100.{}"  # TEST-NET-2: nobody's
_LISTEN = "127.0.0.1"
_PAUSE_S = 0.5
_CLIENTS = 2


def card(number: int) -> tuple[str, ...]:
    """Return QEMU's words for a node's card on the network."""
    tap = f"tap,id=net1,ifname={_tap(number)},script=no,downscript=no"
    return ("-netdev", tap, "-device", f"virtio-net-pci,netdev=net1,romfile=,mac={_mac(number)}")


def address(number: int) -> str:
    """Return the address that a node gets."""
    return _NODE.format(10 + number)


@contextlib.contextmanager
def network(folder: Path, count: int) -> Iterator[None]:
    """Give a bridge with a place for each node, and a DHCP server that knows their cards.

    QEMU's own network would not do for the proxy: it takes a connection before the node does.
    """
    _drop(count)
    try:
        _ip("link", "add", _BRIDGE, "type", "bridge", "forward_delay", "0")
        _ip("address", "add", f"{_HERE}/24", "dev", _BRIDGE)
        _ip("link", "set", _BRIDGE, "up")
        for number in range(count):
            _ip("tuntap", "add", _tap(number), "mode", "tap")
            _ip("link", "set", _tap(number), "master", _BRIDGE, "up")
        known = [f"--dhcp-host={_mac(one)},{address(one)}" for one in range(count)]
        span = f"--dhcp-range={address(0)},{address(count)},12h"
        argv = [
            *("dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--port=0"),
            *(f"--interface={_BRIDGE}", "--bind-interfaces", "--except-interface=lo"),
            *("--user=root", "--pid-file=", f"--dhcp-leasefile={folder}/leases"),
            *(span, *known, "--dhcp-option=3", "--dhcp-option=6"),  # no router, no names
        ]
        with _process(argv, folder / "dnsmasq.log"):
            yield
    finally:
        _drop(count)


def _tap(number: int) -> str:
    return f"{_BRIDGE}{number}"


def _mac(number: int) -> str:
    return f"52:54:00:f1:ee:{number:02x}"


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, timeout=60)


def _drop(count: int) -> None:
    for name in (*map(_tap, range(count)), _BRIDGE):
        subprocess.run(["ip", "link", "del", name], capture_output=True, check=False, timeout=60)


@contextlib.contextmanager
def _process(argv: Sequence[str], log: Path) -> Iterator[None]:
    with log.open("w") as stream:
        process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=stream, stderr=stream)
    try:
        yield
    finally:
        process.terminate()
        process.wait(60)


@dataclass
class Site:
    """A folder with inventory.yml and known_hosts; `nodes` are the machines, by name."""

    top: Path
    nodes: dict[str, VmNode] = field(default_factory=dict)

    def call(
        self, *words: str, inventory: str = "inventory.yml"
    ) -> subprocess.CompletedProcess[str]:
        """Run `imgbuild fleet WORDS…` to its end; emulated firmware that hangs is helped on."""
        where = ["-i", str(self.top / inventory), "--state", str(self.top / "state")]
        argv = [sys.executable, "-m", "builder.cli.main", "fleet", *words, *where]
        env = {**os.environ, "IMGBUILD_PROJECT": str(ROOT)}
        out, err = self.top / "stdout", self.top / "stderr"
        with out.open("w") as one, err.open("w") as two:
            process = subprocess.Popen(argv, cwd=ROOT, env=env, stdout=one, stderr=two)
        try:
            while process.poll() is None:
                time.sleep(0.5)
                for node in self.nodes.values():
                    with contextlib.suppress(VmTimeout):
                        node.machine.wait_for("nothing but this look", 0)
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
        print(f"$ imgbuild fleet {' '.join(words)}\n{out.read_text()}{err.read_text()}")
        return subprocess.CompletedProcess(
            argv, process.returncode, out.read_text(), err.read_text()
        )

    def versions(self) -> dict[str, str]:
        """Ask all nodes; return what they run."""
        told = json.loads(self.call("status", "--json").stdout)
        return {one["name"]: one["version"] for one in told["nodes"]}

    def outcomes(self) -> dict[str, str]:
        """Return what came of each node of the last job."""
        job: dict[str, Any] = json.loads((self.top / "state/job.json").read_text())
        return {name: one["outcome"] for name, one in job["hosts"].items()}


@contextlib.contextmanager
def proxied(site: Site) -> Iterator[int]:
    """Give the port of a HAProxy that runs by what `imgbuild fleet proxy` writes."""
    port, state = free_port(), free_port()
    path = site.top / "haproxy.cfg"
    ports = ["--port", str(port), "--state-port", str(state)]
    done = site.call("proxy", "-o", str(path), "--listen", _LISTEN, *ports)
    assert done.returncode == 0, done.stderr
    with _process(["haproxy", "-f", str(path)], site.top / "haproxy.log"):
        end = time.monotonic() + 60
        while time.monotonic() < end:
            with contextlib.suppress(OSError), socket.create_connection((_LISTEN, port), 1):
                break
            time.sleep(0.1)
        yield port


@contextlib.contextmanager
def asking(port: int) -> Iterator[list[int | str]]:
    """Have clients ask again and again; gives the status of each answer, or what went wrong."""
    done, answers = threading.Event(), list[int | str]()
    threads = [
        threading.Thread(target=_ask, args=(port, done, answers.append)) for _ in range(_CLIENTS)
    ]
    for one in threads:
        one.start()
    try:
        yield answers
    finally:
        done.set()
        for one in threads:
            one.join(120)


def _ask(port: int, done: threading.Event, tell: Callable[[int | str], None]) -> None:
    body = json.dumps({"model": MODEL, "prompt": "x", "max_tokens": 1})
    head = {"Content-Type": "application/json"}
    while not done.wait(_PAUSE_S):
        link = http.client.HTTPConnection(_LISTEN, port, timeout=300)
        try:
            link.request("POST", "/v1/completions", body=body, headers=head)
            answer = link.getresponse()
            answer.read()
            tell(answer.status)
        except (OSError, http.client.HTTPException) as error:
            tell(f"{type(error).__name__}: {error}")
        finally:
            link.close()
