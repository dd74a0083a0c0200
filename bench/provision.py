"""`make bench-provision`: what `imgbuild serve` hands out, side by side with nginx alone.

As root: the servers run in a network namespace, and clients (curl) in the same one, over
loopback, or in another, over a veth pair. Prints a table for docs/provisioning.md.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.provision.lan import Host, lan
from tests.provision.server import running, write

_ROOT = Path(__file__).parents[1]
_CLIENTS = (1, 8, 32)
_ADDRESS = "10.9.0.1"
_NGINX, _PYTHON = 8001, 8002
_GOAL = 0.9
_LEAST_FILES = 8  # in one measurement: one file alone is over too soon to be measured
_ALONE = "nginx alone"
_FILE = "releases/imgbuild-cpu/big"
_NGINX_CONF = """\
user www-data; daemon off; pid {folder}/alone.pid; worker_processes auto;
error_log {folder}/alone.log;
events {{ worker_connections 4096; }}
http {{ sendfile on; tcp_nopush on; access_log off;
    server {{ listen {address}:{port}; root {folder}; }} }}
"""
_APP = """\
from starlette.applications import Starlette
from starlette.responses import FileResponse
from starlette.routing import Route

async def big(request):
    return FileResponse({file!r})

app = Starlette(routes=[Route("/big", big)])
"""


@dataclass(frozen=True)
class Figure:
    """Bytes a second to all clients together: the median of the rounds."""

    server: str
    where: str
    clients: int
    rate: float


def main() -> int:
    """Run the bench; return 1 when `imgbuild serve` gives less than 0.9 of nginx anywhere."""
    parser = argparse.ArgumentParser(prog="python -m bench.provision", description=__doc__)
    parser.add_argument("--mb", type=int, default=128, help="size of the file")
    parser.add_argument("--rounds", type=int, default=5)
    words = parser.parse_args()
    with (
        tempfile.TemporaryDirectory(prefix="bench-provision-") as name,
        lan(srv=f"{_ADDRESS}/24", cli="10.9.0.50/24") as hosts,
    ):
        folder = Path(name)
        folder.chmod(0o755)
        figures = _measure(folder, hosts, words.mb, words.rounds)
    return _tell(figures, words.mb)


def _measure(folder: Path, hosts: dict[str, Host], megabytes: int, rounds: int) -> list[Figure]:
    write(folder, {"interface": "eth0", "dhcp": "off"}, {})
    with (folder / _FILE).open("wb") as stream:
        for _ in range(megabytes):
            stream.write(b"\xa5" * 1_000_000)
    addresses = {
        _ALONE: f"http://{_ADDRESS}:{_NGINX}/{_FILE}",
        "imgbuild serve": f"http://{_ADDRESS}/{_FILE}",
        "uvicorn, FileResponse": f"http://{_ADDRESS}:{_PYTHON}/big",
    }
    figures = []
    with _servers(folder, hosts["srv"]):
        for where, host in (("loopback", hosts["srv"]), ("namespaces", hosts["cli"])):
            for clients in _CLIENTS:
                found: dict[str, list[float]] = {name: [] for name in addresses}
                names = list(addresses)
                for turn in range(rounds):  # by turns: the host may have other work, too
                    at = turn % len(names)
                    for name in names[at:] + names[:at]:
                        found[name].append(_fetch(host, addresses[name], clients, megabytes))
                figures += [
                    Figure(name, where, clients, statistics.median(rates))
                    for name, rates in found.items()
                ]
    return figures


@contextmanager
def _servers(folder: Path, host: Host) -> Iterator[None]:
    text = _NGINX_CONF.format(folder=folder, address=_ADDRESS, port=_NGINX)
    (folder / "alone.conf").write_text(text)
    (folder / "app.py").write_text(_APP.format(file=str(folder / _FILE)))
    python = [sys.executable, "-m", "uvicorn", "app:app", "--host", _ADDRESS, "--port"]
    python += [str(_PYTHON), "--log-level", "error"]
    with ExitStack() as stack:
        stack.enter_context(running(host, folder, _ADDRESS))
        for argv in (["nginx", "-c", str(folder / "alone.conf")], python):
            # A session of its own, as ours have: the kernel shares processors between sessions.
            process = subprocess.Popen(
                host.argv(*argv), cwd=folder, stderr=subprocess.DEVNULL, start_new_session=True
            )
            stack.callback(process.wait, 30)
            stack.callback(process.terminate)
        time.sleep(3)
        yield


def _fetch(host: Host, address: str, clients: int, megabytes: int) -> float:
    """Return the bytes a second that all clients together got; few of them fetch it repeatedly."""
    times = 1 if str(_PYTHON) in address else max(1, _LEAST_FILES // clients)
    words = ["--output", "/dev/null", address] * times
    argv = host.argv("curl", "--silent", "--fail", *words)
    began = time.monotonic()
    running_ = [subprocess.Popen(argv) for _ in range(clients)]
    if any([one.wait() for one in running_]):  # noqa: C419 - all of them must end
        raise SystemExit(f"{address}: a client failed")
    return times * clients * megabytes * 1e6 / (time.monotonic() - began)


def _tell(figures: list[Figure], megabytes: int) -> int:
    print(f"{megabytes} MB to each client, MB/s to all of them (of nginx alone)")
    print("| server | where | 1 client | 8 | 32 |")
    print("| --- | --- | --- | --- | --- |")
    alone = {(one.where, one.clients): one.rate for one in figures if one.server == _ALONE}
    least = 1.0
    for server, where in dict.fromkeys((one.server, one.where) for one in figures):
        cells = []
        for one in figures:
            if (one.server, one.where) == (server, where):
                share = one.rate / alone[where, one.clients]
                cells.append(f"{one.rate / 1e6:,.0f} ({share:.2f})")
                least = min(least, share) if server == "imgbuild serve" else least
        print(f"| {server} | {where} | {' | '.join(cells)} |")
    print(f"imgbuild serve gives at least {least:.2f} of nginx alone; {_GOAL} is wanted")
    return int(least < _GOAL)


if __name__ == "__main__":
    sys.exit(main())
