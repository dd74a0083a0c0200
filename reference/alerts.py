"""The page of all alerts, made of the rules that raise them."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

_RULES = Path("monitoring/rules/alerts.yaml")
_LABEL = re.compile(r"\{\{ *\$labels\.([a-z_]+) *\}\}")
_VALUE = re.compile(r"\{\{ *\$value[^}]*\}\}")


def page(root: Path) -> str:
    """Return the page about the rules of a project."""
    groups = yaml.safe_load((root / _RULES).read_text())["groups"]
    lines = [
        "# Alerts",
        "",
        "Made by `make golden` from `monitoring/rules/alerts.yaml`",
        "([monitoring](../monitoring.md)). `critical` wakes somebody, `warning` waits for the day.",
    ]
    for group in groups:
        lines += ["", f"## {group['name']}", "", "| alert | severity | after | what | what to do |"]
        lines += ["| --- | --- | --- | --- | --- |"]
        for rule in group["rules"]:
            said = rule["annotations"]
            cells = [f"`{rule['alert']}`", rule["labels"]["severity"], rule.get("for", "at once")]
            cells += [_plain(said["summary"]), _plain(said.get("hint", ""))]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join([*lines, ""])


def _plain(text: str) -> str:
    """Return a template's text with names for its values, as a cell of a table."""
    named = _VALUE.sub("N", _LABEL.sub(lambda match: match[1].upper(), text))
    return " ".join(named.split()).replace("|", "\\|")
