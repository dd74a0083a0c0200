"""How the checks' findings are told: `/run/imgnode/health.json`, metrics, lines for people."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from imgnode import metrics
from imgnode.files import write_atomic
from imgnode.health.contract import Finding, Level
from imgnode.health.progress import Class
from imgnode.serve.facts import read_json

FILE = Path("run/imgnode/health.json")
MAINTENANCE = Path("run/imgnode/maintenance")  # while it is there, nobody is to be woken
STALE_S = 120.0
_RANK = (Level.OK, Level.WARNING, Level.FAILED)
_SERVE = "serve"


@dataclass(frozen=True)
class Seen:
    """What one check found last: `when` in seconds since 1970, `took` in seconds.

    `more` is what the check tells besides, by name; it stands in the file as it is.
    """

    check: str
    findings: tuple[Finding, ...]
    when: float
    took: float
    more: Mapping[str, object] = field(default_factory=dict)


def worst(findings: Iterable[Finding]) -> Level:
    """Return the worst level there is, OK where nothing is found."""
    return max((one.level for one in findings), key=_RANK.index, default=Level.OK)


def write(seen: Iterable[Seen], root: Path = Path("/"), *, wall: float | None = None) -> None:
    """Write the state file and the metrics. Raises OSError."""
    now = time.time() if wall is None else wall
    checks = {one.check: one for one in seen}
    told = {
        "when": round(now, 1),
        "level": worst(finding for one in checks.values() for finding in one.findings),
        "silenced": (root / MAINTENANCE).exists(),
        "checks": {name: _told(one) for name, one in checks.items()},
    }
    write_atomic(root / FILE, json.dumps(told, indent=1) + "\n")
    metrics.write("health", _samples(checks, now), root)


def read(root: Path = Path("/")) -> dict[str, Any] | None:
    """Return what was told last, None where nothing was in this boot."""
    return read_json(root / FILE)


def lines(told: dict[str, Any] | None, now: float) -> list[str]:
    """Return what people read: one line for each check, then its findings."""
    if told is None:
        return ["health   not watched (hint: systemctl status imgnode-health)"]
    found = [*_age(told, now)]
    if told["silenced"]:
        found.append("health   maintenance: nobody is alerted")
    for name, one in told["checks"].items():
        kind = f" ({one['class']})" if "class" in one else ""
        found.append(f"{name:<12} {one['level']}{kind}")
        found += [f"  {finding['level']}: {_line(finding)}" for finding in one["findings"]]
    return found


def short(told: dict[str, Any] | None, now: float) -> list[str]:
    """Return the lines of `imgnode status`: what is wrong, or that nothing is."""
    if told is None:
        return []
    findings = [(name, one) for name, each in told["checks"].items() for one in each["findings"]]
    age = _age(told, now)
    if not findings:
        return age or [f"health   ok: {len(told['checks'])} checks"]
    return [*age, *(f"health   {one['level']}: {name}: {one['fact']}" for name, one in findings)]


def is_failed(told: dict[str, Any] | None, now: float) -> bool:
    """Tell whether the node does not do its work, or nobody looks whether it does."""
    return told is None or bool(_age(told, now)) or told["level"] == Level.FAILED


def _age(told: dict[str, Any], now: float) -> list[str]:
    age = now - told["when"]
    if age <= STALE_S:
        return []
    return [f"health   STALE: {age:.0f} s old (hint: systemctl status imgnode-health)"]


def _line(finding: dict[str, Any]) -> str:
    hint = f" (hint: {finding['hint']})" if finding["hint"] else ""
    return f"{finding['fact']}{hint}"


def _told(seen: Seen) -> dict[str, Any]:
    findings = [{**asdict(one), "gpus": list(one.gpus)} for one in seen.findings]
    level = worst(seen.findings)
    when = {"when": round(seen.when, 1), "seconds": round(seen.took, 3)}
    return {"level": level, **when, "findings": findings, **seen.more}


def _samples(checks: Mapping[str, Seen], now: float) -> dict[str, metrics.Samples]:
    found = Counter((one.check, one.key) for each in checks.values() for one in each.findings)
    levels: metrics.Samples = {
        (("check", name),): _RANK.index(worst(one.findings)) for name, one in checks.items()
    }
    keys: metrics.Samples = {
        (("check", check), ("key", key)): count for (check, key), count in found.items()
    }
    kind = checks[_SERVE].more.get("class") if _SERVE in checks else None
    classes: metrics.Samples = (
        {(("class", one),): int(one == kind) for one in Class} if kind else {}
    )
    return {
        metrics.HEALTH_LEVEL: levels,
        metrics.HEALTH_FINDING: keys,
        metrics.HEALTH_TIME: {(): round(now)},
        metrics.SERVE_CLASS: classes,
    }
