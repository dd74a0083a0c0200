"""Targets for Prometheus' file_sd_configs, one file for each job (docs/monitoring.md)."""

from __future__ import annotations

import json
from collections.abc import Sequence

from builder.fleet.nodes import Node

PORTS = {"node": 9100, "imgnode": 9101}


def targets(nodes: Sequence[Node], job: str) -> str:
    """Return the JSON of one job: `instance` is the node's name, so that both jobs meet."""
    rows = [
        {
            "targets": [f"{_host(node.address)}:{PORTS[job]}"],
            "labels": {
                "instance": node.name,
                **{
                    key: value
                    for key, value in (
                        ("rack", node.rack),
                        ("profile", node.profile),
                        ("model", node.model),
                    )
                    if value
                },
            },
        }
        for node in nodes
    ]
    return f"{json.dumps(rows, indent=1)}\n"


def _host(address: str) -> str:
    return f"[{address}]" if ":" in address else address
