"""Rules and dashboards: up to date, sound for promtool, and only of metrics that there are."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from imgnode import metrics
from imgnode.exporter import names
from monitoring.__main__ import files
from tests.unit.promql import metrics_of

ROOT = Path(__file__).parents[2]
RULES = ROOT / "monitoring/rules"
FOREIGN = ROOT / "tests/fixtures/prometheus/node-exporter.txt"
# Only real boards have these: collector/edac_linux.go of node_exporter 1.5.0.
HARDWARE = {"node_edac_correctable_errors_total", "node_edac_uncorrectable_errors_total"}
PARTS = {"histogram": ("_bucket", "_sum", "_count")}
HINT = "if this is meant: python -m monitoring, and look at git diff"


def groups(name: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = yaml.safe_load((RULES / name).read_text())["groups"]
    return [rule for group in found for rule in group["rules"]]


ALERTS = {rule["alert"]: rule for rule in groups("alerts.yaml")}
RECORDED = {rule["record"]: rule["expr"] for rule in groups("recording.yaml")}


def there() -> set[str]:
    """Return every metric that nodes have, and what rules make of them."""
    passed = {
        f"{name}{part}"
        for name, (kind, _) in names.PASSED.items()
        for part in PARTS.get(kind, ("",))
    }
    lines = FOREIGN.read_text().splitlines()
    foreign = {line.split()[0] for line in lines if not line.startswith("#")}
    own = {*metrics.HELP, *names.HELP}
    return own | passed | foreign | HARDWARE | set(RECORDED) | {"up", "ALERTS"}


def expressions() -> Iterator[tuple[str, str]]:
    """Yield every expression and where it stands."""
    for name, rule in ALERTS.items():
        yield f"alert {name}", rule["expr"]
    yield from RECORDED.items()
    for path in sorted((ROOT / "monitoring/dashboards").glob("*.json")):
        for panel in json.loads(path.read_text())["panels"]:
            for target in panel.get("targets", ()):
                yield f"{path.name}: {panel['title']}", target["expr"]


@pytest.mark.parametrize("path", sorted(files()), ids=str)
def test_what_is_made_is_up_to_date(path: Path) -> None:
    assert (ROOT / path).read_text() == files()[path], HINT


def test_no_dashboard_is_left_over() -> None:
    made = {path.name for path in files()}
    assert {path.name for path in (ROOT / "monitoring/dashboards").iterdir()} <= made


def test_only_metrics_that_there_are() -> None:
    known = there()
    wrong = {where: metrics_of(expr) - known for where, expr in expressions()}
    assert {where: names for where, names in wrong.items() if names} == {}


def test_the_reader_of_expressions_finds_metrics_alone() -> None:
    expr = 'sum by (a, b) (rate(x_total{c="up", d=~"no|yes"}[5m] offset 1d)) > 2e3 and on (e) y:z'
    assert metrics_of(expr) == {"x_total", "y:z"}
    assert metrics_of('count(up{job="a"} == 0) or vector(0)') == {"up"}
    assert metrics_of("histogram_quantile(0.9, b_bucket unless c)") == {"b_bucket", "c"}


def test_each_recorded_metric_is_used() -> None:
    used = {name for _, expr in expressions() for name in metrics_of(expr)}
    assert set(RECORDED) <= used


@pytest.mark.parametrize("name", sorted(ALERTS))
def test_each_alert_says_how_bad_it_is_and_what_to_do(name: str) -> None:
    rule = ALERTS[name]
    assert rule["labels"]["severity"] in ("critical", "warning")
    assert set(rule["annotations"]) == {"summary", "hint"}
    assert f'alertname="{name}"' in (RULES / "tests.yaml").read_text(), "it has no test"


@pytest.mark.allow_commands("promtool")
@pytest.mark.parametrize(
    "words",
    [
        ["check", "rules", "rules/recording.yaml", "rules/alerts.yaml"],
        ["check", "config", "prometheus.yaml"],
        ["test", "rules", "rules/tests.yaml"],
    ],
    ids=["rules", "config", "tests"],
)
def test_promtool_is_content(words: list[str]) -> None:
    if not shutil.which("promtool"):
        pytest.skip("promtool is not installed: scripts/setup does it")
    done = subprocess.run(
        ["promtool", *words], cwd=RULES.parent, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
