"""The page of all metrics, made of what declares them."""

from __future__ import annotations

from collections.abc import Mapping

from imgnode import metrics
from imgnode.exporter import names

_HEAD = """# Metrics

Made by `make golden` from `imgnode/metrics.py` and `imgnode/exporter/names.py`. A name never
changes its meaning. How to connect a Prometheus: [monitoring](../monitoring.md).
"""
_PARTS: tuple[tuple[str, str, Mapping[str, str]], ...] = (
    (
        "Of the node's services",
        "By the node exporter, port 9100, from `/run/imgnode/metrics`.",
        metrics.HELP,
    ),
    (
        "GPUs",
        "Port 9101, label `gpu`: the driver's number. No sample: the board lacks it.",
        names.GPU,
    ),
    ("The node", "Port 9101.", names.NODE),
    ("vLLM, worked out", "Port 9101.", names.VLLM),
    ("The exporter itself", "Port 9101.", names.SELF),
)


def text() -> str:
    """Return the page."""
    parts = [_HEAD]
    for title, where, about in _PARTS:
        rows = [(name, metrics.kind(name), line) for name, line in about.items()]
        parts.append(_table(title, where, rows))
    passed = [(name, kind, line) for name, (kind, line) in names.PASSED.items()]
    where = "Port 9101, under vLLM's own names and labels; nothing else of its page is passed on."
    parts.append(_table("vLLM's own", where, passed))
    return "\n".join(parts)


def _table(title: str, where: str, rows: list[tuple[str, str, str]]) -> str:
    lines = [f"| `{name}` | {kind} | {line} |" for name, kind, line in rows]
    return "\n".join([f"## {title}", "", where, "", "| metric | type | what |",
                      "| --- | --- | --- |", *lines, ""])  # fmt: skip
