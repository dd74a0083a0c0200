"""A real Prometheus asks a real exporter, whose GPUs and vLLM are stand-ins: no root, no VM."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from builder.vm.machine import free_port
from imgnode import metrics
from imgnode.exporter import names
from tests.live.prometheus import Job, Prometheus, running
from tests.unit import exporter_node, gpu_node
from tests.unit.promql import metrics_of

ROOT = Path(__file__).parents[2]
GPUS = 8
DAEMON = "import sys; from pathlib import Path; from imgnode.exporter.daemon import main; "
DAEMON += "main(['--port', sys.argv[1]], Path(sys.argv[2]))"


class Quiet(SimpleHTTPRequestHandler):
    """Hands out files, and keeps silent about it."""

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def top(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("live")


@pytest.fixture(scope="module")
def pages(top: Path) -> Iterator[int]:
    """Serve vLLM's page and the text files of a node that is well; return the port."""
    folder = top / "pages"
    folder.mkdir()
    (folder / "metrics").write_text(exporter_node.PAGE)
    well: dict[str, metrics.Samples] = {
        metrics.SEED_ERROR: {(): 0},
        metrics.GATE_VERDICT: {(("class", "ok"),): 1, (("class", "image"),): 0},
        metrics.SERVE_STATE: {(("state", "serving"),): 1},
        metrics.GPU_EXPECTED: {(): GPUS},
        metrics.GPU_FOUND: {(): GPUS},
    }
    (folder / "text").write_text(metrics.render(well, metrics.HELP))
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=folder)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_address[1]
        server.shutdown()


@pytest.fixture(scope="module")
def scenario(top: Path) -> Path:
    path = top / "scenario"
    path.write_bytes((gpu_node.FIXTURES / "a100.txt").read_bytes())
    return path


@pytest.fixture(scope="module")
def exporter(top: Path, pages: int, scenario: Path) -> Iterator[int]:
    """Run the daemon as a node would; return its port."""
    root = exporter_node.root(top / "root", gpu={"model": "any"})
    facts = root / "usr/lib/imgnode/image.json"
    told = json.loads(facts.read_text())
    facts.write_text(json.dumps({**told, "serve": {**told["serve"], "port": pages}}))
    port, library = free_port(), gpu_node.build(top / "nvml")
    env = {**os.environ, "LD_LIBRARY_PATH": str(library), "NVML_FAKE": str(scenario)}
    argv = [sys.executable, "-c", DAEMON, str(port), str(root)]
    process = subprocess.Popen(argv, cwd=ROOT, env={**env, "PYTHONPATH": str(ROOT)})
    yield port
    process.terminate()
    assert process.wait(timeout=30) == 0


@pytest.fixture(scope="module")
def prometheus(top: Path, exporter: int, pages: int) -> Iterator[Prometheus]:
    jobs = Job("imgnode", exporter), Job("node", pages, {"metrics_path": "/text"})
    with running(top, *jobs) as server:
        yield server


def test_both_are_scraped(prometheus: Prometheus) -> None:
    prometheus.wait("up == 1", lambda found: len(found) == 2)


def test_what_runs_and_that_it_is_well(prometheus: Prometheus) -> None:
    (image,) = prometheus.wait("imgnode_image_info")
    assert image["metric"]["version"] == "1"
    prometheus.wait("imgnode_exporter_collector_success == 1", lambda found: len(found) == 2)
    assert prometheus.value('imgnode_gate_verdict{class="ok"}') == 1


def test_each_gpu_is_there_with_all_it_has(prometheus: Prometheus) -> None:
    prometheus.wait("imgnode_gpu_info", lambda found: len(found) == GPUS)
    for name in names.GPU:
        assert len(prometheus.query(f"count by (gpu) ({name})")) == GPUS, name
    assert prometheus.value("sum(imgnode_gpu_memory_total_bytes)") == GPUS * (80 << 30)


def test_types_are_those_of_the_reference(prometheus: Prometheus) -> None:
    prometheus.wait("vllm:num_requests_running")
    wanted = {name: metrics.kind(name) for name in names.GPU}
    wanted |= {name: kind for name, (kind, _) in names.PASSED.items()}
    assert {name: prometheus.type_of(name) for name in wanted} == {
        name: {kind} for name, kind in wanted.items()
    }


def test_vllm_s_own_series_are_there_under_their_names(prometheus: Prometheus) -> None:
    assert prometheus.value("vllm:num_requests_running") == 2
    assert prometheus.value("vllm:generation_tokens_total") == 730
    wanted = "histogram_quantile(0.5, sum by (le) (vllm:time_to_first_token_seconds_bucket))"
    assert 0 < prometheus.value(wanted) < 5
    assert prometheus.value("imgnode_vllm_generation_tokens_per_second") == 0


def test_the_rules_work_on_what_is_there(prometheus: Prometheus) -> None:
    assert prometheus.value("instance:imgnode_gpu_utilization:avg5m") == pytest.approx(0.87)
    assert prometheus.value("instance:imgnode_gpu_memory_used:ratio") == pytest.approx(0.9)
    assert prometheus.value("fleet:imgnode_nodes_serving:count") == 1
    assert prometheus.query('ALERTS{alertstate="firing"}') == []


def test_every_panel_s_question_is_understood(prometheus: Prometheus) -> None:
    """And most have an answer on this one node, as far as its metrics go."""
    answered = 0
    for path in sorted((ROOT / "monitoring/dashboards").glob("*.json")):
        for panel in json.loads(path.read_text())["panels"]:
            for target in panel.get("targets", ()):
                expr = target["expr"].replace("$instance", "gpu-07")
                found = prometheus.query(expr)
                answered += bool(found)
                if all(name.startswith("imgnode_gpu_m") for name in metrics_of(expr)):
                    assert found, panel["title"]
    assert answered > 30


def test_a_lost_gpu_raises_an_alert(prometheus: Prometheus, scenario: Path) -> None:
    with scenario.open("a") as stream:
        stream.write("gpu3.fail 15\n")
    firing = 'ALERTS{alertname="GpuLost", alertstate="firing"}'
    (alert,) = prometheus.wait(firing)
    assert (alert["metric"]["gpu"], alert["metric"]["severity"]) == ("3", "critical")
    assert len(prometheus.query("imgnode_gpu_temperature_celsius")) == GPUS - 1
