"""Writes Grafana's dashboards (grafana.com, "Dashboard JSON model") from short lists of panels."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

WIDTH = 24  # columns of Grafana's grid
_SOURCE = {"type": "prometheus", "uid": "${datasource}"}
_SCHEMA = 38  # Grafana 9.4 and later read it


@dataclass(frozen=True)
class Panel:
    """One panel: what it asks (PromQL, and how a line is named), and the unit of it."""

    title: str
    asks: tuple[tuple[str, str], ...]
    unit: str = "short"
    kind: str = "timeseries"  # or stat, table
    width: int = 8
    top: float | None = None  # the axis ends here


@dataclass(frozen=True)
class Row:
    """A heading and the panels below it, side by side."""

    title: str
    panels: tuple[Panel, ...]


def dashboard(uid: str, title: str, rows: tuple[Row, ...], *, by_node: bool) -> str:
    """Return the JSON of a dashboard; `by_node` lets people choose a node as `$instance`."""
    panels: list[dict[str, Any]] = []
    y = 0
    for row in rows:
        panels.append({"type": "row", "title": row.title, "gridPos": _place(0, y, WIDTH, 1)})
        x, y, tallest = 0, y + 1, 0
        for one in row.panels:
            height = 4 if one.kind == "stat" else 8
            if x + one.width > WIDTH:
                x, y, tallest = 0, y + tallest, 0
            panels.append(_panel(one, _place(x, y, one.width, height)))
            x, tallest = x + one.width, max(tallest, height)
        y += tallest
    told = {
        "uid": uid,
        "title": title,
        "tags": ["imgbuild"],
        "schemaVersion": _SCHEMA,
        "editable": True,
        "refresh": "30s",
        "time": {"from": "now-6h", "to": "now"},
        "templating": {"list": _variables(by_node=by_node)},
        "panels": [{"id": number, **panel} for number, panel in enumerate(panels, 1)],
    }
    return json.dumps(told, indent=1, ensure_ascii=False) + "\n"


def _panel(one: Panel, place: dict[str, int]) -> dict[str, Any]:
    asks = [
        {
            "refId": chr(ord("A") + number),
            "datasource": _SOURCE,
            "expr": expr,
            "legendFormat": legend,
            **({"format": "table", "instant": True} if one.kind == "table" else {}),
        }
        for number, (expr, legend) in enumerate(one.asks)
    ]
    limits = {} if one.top is None else {"min": 0, "max": one.top}
    return {
        "type": one.kind,
        "title": one.title,
        "datasource": _SOURCE,
        "gridPos": place,
        "targets": asks,
        "fieldConfig": {"defaults": {"unit": one.unit, **limits}, "overrides": []},
        "options": {},
    }


def _place(x: int, y: int, w: int, h: int) -> dict[str, int]:
    return {"x": x, "y": y, "w": w, "h": h}


def _variables(*, by_node: bool) -> list[dict[str, Any]]:
    source = {"name": "datasource", "type": "datasource", "query": "prometheus"}
    query = "label_values(imgnode_image_info, instance)"
    node = {
        "name": "instance",
        "label": "node",
        "type": "query",
        "datasource": _SOURCE,
        "query": {"query": query, "refId": "instance"},
        "refresh": 2,
        "sort": 1,
    }
    return [source, node] if by_node else [source]
