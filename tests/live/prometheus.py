"""A Prometheus of Debian that scrapes nodes from this machine, and answers queries."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import requests
import yaml

from builder.vm.machine import free_port

RULES = Path(__file__).parents[2] / "monitoring/rules"
_EVERY = "1s"
_LIMIT_S = 120.0
_ASK_S = 10
Wanted = Callable[[list[Mapping[str, Any]]], bool]


@dataclass(frozen=True)
class Job:
    """What is scraped under which name; `more` are further keys of scrape_config."""

    name: str
    port: int
    more: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Prometheus:
    """A running server."""

    port: int
    log: Path

    def query(self, expr: str) -> list[Mapping[str, Any]]:
        """Return the result of an instant query: metrics with their values."""
        found: list[Mapping[str, Any]] = self._ask("query", query=expr)["result"]
        return found

    def type_of(self, metric: str) -> set[str]:
        """Return the types that targets say a metric is of."""
        return {one["type"] for one in self._ask("metadata", metric=metric).get(metric, ())}

    def _ask(self, what: str, **words: str) -> Any:  # noqa: ANN401 - whatever the API returns
        address = f"http://127.0.0.1:{self.port}/api/v1/{what}"
        answer = requests.get(address, params=words, timeout=_ASK_S)
        assert answer.status_code == requests.codes.ok, f"{words}: {answer.text}"
        return answer.json()["data"]

    def value(self, expr: str) -> float:
        """Return the one value of an expression, once there is one."""
        (one,) = self.wait(expr, lambda found: len(found) == 1)
        return float(one["value"][1])

    def wait(self, expr: str, wanted: Wanted = bool) -> list[Mapping[str, Any]]:
        """Return the result of a query once it is as wanted."""
        ends = time.monotonic() + _LIMIT_S
        while time.monotonic() < ends:
            found = self.query(expr)
            if wanted(found):
                return found
            time.sleep(0.5)
        pytest.fail(f"{expr}: {found}\n{self.log.read_text()[-2000:]}")


@contextmanager
def running(folder: Path, *jobs: Job) -> Iterator[Prometheus]:
    """Run a server that scrapes each second, with our rules; skips where there is none."""
    program = shutil.which("prometheus")
    if program is None:
        pytest.skip("prometheus is not installed: scripts/setup does it")
    config = {
        "global": {
            "scrape_interval": _EVERY,
            "scrape_timeout": _EVERY,
            "evaluation_interval": _EVERY,
        },
        "rule_files": [str(RULES / "recording.yaml"), str(RULES / "alerts.yaml")],
        "scrape_configs": [_scrape(one) for one in jobs],
    }
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    port, log = free_port(), folder / "prometheus.log"
    argv = [program, f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data"]
    argv.append(f"--web.listen-address=127.0.0.1:{port}")
    with log.open("w") as stream:
        process = subprocess.Popen(argv, stdout=stream, stderr=subprocess.STDOUT)
        try:
            _wait_ready(port, log)
            yield Prometheus(port, log)
        finally:
            process.terminate()
            process.wait(timeout=30)


def _wait_ready(port: int, log: Path) -> None:
    ends = time.monotonic() + _LIMIT_S
    while time.monotonic() < ends:
        with suppress(requests.RequestException):
            if requests.get(f"http://127.0.0.1:{port}/-/ready", timeout=_ASK_S).ok:
                return
        time.sleep(0.2)
    pytest.fail(log.read_text()[-2000:])


def _scrape(job: Job) -> dict[str, Any]:
    target = {"targets": [f"127.0.0.1:{job.port}"], "labels": {"instance": "gpu-07"}}
    return {"job_name": job.name, "static_configs": [target], **job.more}
