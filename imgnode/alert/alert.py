"""One alert: labels that say which it is, annotations that people read."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass

from imgnode.health.contract import Finding, Level

CRITICAL, WARNING = SEVERITIES = ("critical", "warning")


@dataclass(frozen=True)
class Alert:
    """`starts` and `ends` are in seconds since 1970; without `ends` it is firing.

    What the labels say never changes while it lasts; what the annotations say may.
    """

    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    starts: float
    ends: float | None = None

    @property
    def fingerprint(self) -> str:
        """What makes two alerts the same."""
        return fingerprint(self.labels)

    def __str__(self) -> str:
        """Return the one line that people read."""
        hint = self.annotations.get("description")
        fact = self.annotations["summary"]
        return f"{fact} (hint: {hint})" if hint else fact


def fingerprint(labels: Mapping[str, str]) -> str:
    """Return the labels as one text: a digest would load a library into the health loop."""
    return json.dumps(labels, sort_keys=True)


def of_finding(finding: Finding, now: float) -> Alert:
    """Return the alert that a finding gives, beginning now."""
    labels = {
        "alertname": f"Imgnode{_camel(finding.check)}{_camel(finding.key)}",
        "severity": CRITICAL if finding.level == Level.FAILED else WARNING,
        "job": "imgnode",
        "instance": os.uname().nodename,
        "check": finding.check,
        "key": finding.key,
    }
    if finding.unit:
        labels["unit"] = finding.unit
    if finding.gpus:
        labels["gpu"] = ",".join(str(one) for one in finding.gpus)
    annotations = {"summary": _line(finding.fact)}
    if finding.hint:
        annotations["description"] = _line(finding.hint)
    return Alert(labels, annotations, now)


def _camel(text: str) -> str:
    words = "".join(c if c.isalnum() else " " for c in text).split()
    return "".join(f"{word[0].upper()}{word[1:]}" for word in words)


def _line(text: str) -> str:
    return "".join(c if c.isprintable() else "?" for c in " ".join(text.split()))
