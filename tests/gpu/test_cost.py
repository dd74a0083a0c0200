"""What the node's own agents cost on a machine with real GPUs: memory and processor time, idle.

The exporter with its child that watches NVML, and the watch of health, as their services run them.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import pytest

from imgnode.gpu import nvml
from imgnode.gpu.profile import GpuProfile

pytestmark = pytest.mark.gpu
_MEMORY, _CPU = 60e6, 0.01  # of all together; of one core
_PYTHON = (3, 11)  # of the node; others are larger, so that there the figure is only printed
_WARM_S, _MEASURED_S = 45.0, 60.0
_EXPORTER = """\
import sys
from pathlib import Path
from imgnode.exporter.daemon import main
main(["--listen", "127.0.0.1", "--port", sys.argv[2]], Path(sys.argv[1]))
"""
_HEALTH = """\
import sys
from pathlib import Path
from imgnode.health.watch import run
run(root=Path(sys.argv[1]))
"""


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@pytest.fixture
def port() -> int:
    return free_port()


@pytest.fixture
def agents(tmp_path: Path, port: int) -> Iterator[list[int]]:
    """Process numbers of the agents and their children."""
    if nvml.open_driver() is not None:
        pytest.skip("no NVIDIA driver answers here")
    nvml.close_driver()
    facts = tmp_path / "usr/lib/imgnode/image.json"
    facts.parent.mkdir(parents=True)
    told = {"image_id": "x", "version": "1", "epoch": 0, "serve": {"port": free_port()}}
    facts.write_text(json.dumps({**told, "gpu": asdict(GpuProfile("any"))}))
    (tmp_path / "var").mkdir()
    (tmp_path / "run/imgnode").mkdir(parents=True)
    (tmp_path / "proc").symlink_to("/proc")
    running = [
        subprocess.Popen([sys.executable, "-c", text, str(tmp_path), str(port)], env=_environment())
        for text in (_EXPORTER, _HEALTH)
    ]
    try:
        time.sleep(_WARM_S)
        assert all(one.poll() is None for one in running)
        children = {
            int(word)
            for one in running
            for task in Path(f"/proc/{one.pid}/task").iterdir()  # a thread starts the child
            for word in (task / "children").read_text().split()
        }
        yield [*(one.pid for one in running), *sorted(children)]
    finally:
        for one in running:
            one.terminate()
            one.wait(20)


def test_agents_stay_within_their_share(agents: list[int], port: int) -> None:
    """Prints resident memory with what they share counted once (proc_pid_smaps(5), Pss)."""
    assert len(agents) >= 3
    began = _ticks(agents)
    time.sleep(_MEASURED_S)
    share = (_ticks(agents) - began) / os.sysconf("SC_CLK_TCK") / _MEASURED_S
    times = [_scrape(port) for _ in range(20)]
    memory = {name: sum(_memory(one, name) for one in agents) for name in ("Rss", "Pss")}
    print(
        f"{len(agents)} processes: resident {memory['Rss'] / 1e6:.1f} MB, shared pages once "
        f"{memory['Pss'] / 1e6:.1f} MB; {100 * share:.2f} % of a core; "
        f"scrape {1e3 * sorted(times)[10]:.1f} ms"
    )
    if sys.version_info[:2] == _PYTHON:
        assert memory["Pss"] <= _MEMORY
    assert share <= _CPU
    assert max(times) <= 0.1


def _environment() -> dict[str, str]:
    """Return the environment of a service, and where our packages are."""
    return {"PATH": os.environ["PATH"], "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}


def _ticks(agents: list[int]) -> int:
    """Return processor time, that of ended children too (proc_pid_stat(5))."""
    fields = [Path(f"/proc/{one}/stat").read_text().rpartition(")")[2].split() for one in agents]
    return sum(int(word) for one in fields for word in one[11:15])


def _memory(pid: int, name: str) -> int:
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    (kib,) = (line.split()[1] for line in text.splitlines() if line.startswith(f"{name}:"))
    return 1024 * int(kib)


def _scrape(port: int) -> float:
    began = time.monotonic()
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        assert b"imgnode_gpu_" in answer.read()
    return time.monotonic() - began
