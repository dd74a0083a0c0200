"""How a verdict is told: state file, history, console, login, metrics, `imgnode status`."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from imgnode import metrics
from imgnode.files import write_atomic
from imgnode.gate.finding import CLASSES, OK, Finding
from imgnode.identity import read_identity, read_slot
from imgnode.process import run
from imgnode.serve.facts import read_json

FILE = Path("run/imgnode/gate.json")
HISTORY = Path("var/lib/imgnode/gate/history.json")
_ISSUE = Path("run/imgnode/gate.issue")  # overlays/base/etc/issue.d
_MOTD = Path("run/motd.d/imgnode-gate")  # pam_motd(8)
_KEPT = 50
_ERR = "<3>"  # sd-daemon(3): the journal's priority err
_RELOAD_S = 20


@dataclass(frozen=True)
class Verdict:
    """Whose matter it is, in one line, with all the evidence; `when` is in seconds since 1970.

    `slot` and `tries` are those of this boot (imgnode/identity.py).
    """

    whose: str
    text: str
    evidence: tuple[Finding, ...]
    seconds: float
    when: int
    version: str
    slot: str | None
    tries: str | None

    def as_dict(self) -> dict[str, Any]:
        """Return what stands in the state file and in the history."""
        values = asdict(self)
        return {"state": "done", "class": values.pop("whose"), **values}


def verdict(
    whose: str,
    deciding: Iterable[Finding],
    findings: tuple[Finding, ...],
    seconds: float,
    root: Path = Path("/"),
) -> Verdict:
    """Return the verdict with what identifies this boot."""
    told = [one.fact for one in deciding] or [one.fact for one in findings if one.whose == OK]
    identity = read_identity(root)
    return Verdict(
        whose=whose,
        text=_line("; ".join(told)) or "nothing is wrong",
        evidence=findings,
        seconds=seconds,
        when=int(time.time()),
        version=identity.version,
        slot=read_slot(root),
        tries=identity.tries,
    )


def begin(root: Path = Path("/")) -> None:
    """Say that no verdict is there yet. Raises OSError."""
    waiting("gate", "looking", root)
    _publish(None, None, root)


def waiting(check: str, text: str, root: Path = Path("/")) -> None:
    """Say what is being waited for. Raises OSError."""
    told = {"state": "judging", "class": None, "check": check, "text": _line(text)}
    write_atomic(root / FILE, json.dumps(told, indent=1) + "\n")


def tell(one: Verdict, then: str, root: Path = Path("/")) -> None:
    """Tell a verdict everywhere, and what comes of it. Raises OSError for a full /run."""
    told = {**one.as_dict(), "then": then}
    write_atomic(root / FILE, json.dumps(told, indent=1) + "\n")
    _publish(one.whose, one.seconds, root)
    lines = [f"gate: {one.whose}: {one.text}", f"gate: {then}"]
    _on_screens([] if one.whose == OK else lines, root)
    for line in lines:
        if one.whose == OK:
            print(line, flush=True)
        else:
            print(f"{_prefix()}{line}", file=sys.stderr, flush=True)
    try:
        _remember(told, root)
    except OSError as error:  # the verdict itself may be that /var cannot be written
        print(f"gate: no history: {error.strerror}", file=sys.stderr, flush=True)


def read(root: Path = Path("/")) -> dict[str, Any] | None:
    """Return what was told last in this boot, None before the gate has begun."""
    return read_json(root / FILE)


def read_history(root: Path = Path("/")) -> list[dict[str, Any]]:
    """Return earlier verdicts, oldest first."""
    kept = (read_json(root / HISTORY) or {}).get("verdicts", [])
    return [one for one in kept if isinstance(one, dict)] if isinstance(kept, list) else []


def lines(told: dict[str, Any] | None) -> list[str]:
    """Return the lines of `imgnode status`."""
    if told is None:
        return []
    if told["state"] != "done":
        return [f"gate     judging: {told['check']}: {told['text']}"]
    found = [f"gate     {told['class']}: {told['text']}"]
    return found if told["class"] == OK else [*found, f"gate     {told['then']}"]


def _remember(told: dict[str, Any], root: Path) -> None:
    kept = [*read_history(root), told][-_KEPT:]
    write_atomic(root / HISTORY, json.dumps({"verdicts": kept}, indent=1) + "\n")


def _publish(whose: str | None, seconds: float | None, root: Path) -> None:
    classes: metrics.Samples = {(("class", one),): int(one == whose) for one in CLASSES}
    took: metrics.Samples = {} if seconds is None else {(): seconds}
    metrics.write("gate", {metrics.GATE_VERDICT: classes, metrics.GATE_SECONDS: took}, root)


def _on_screens(told: list[str], root: Path) -> None:
    """Have it above the login prompt and below a login; what is good stands nowhere."""
    if told:  # issue(5): agetty would expand backslashes
        write_atomic(root / _ISSUE, "\n".join(told).replace("\\", "\\\\") + "\n\n")
        write_atomic(root / _MOTD, "\n".join(told) + "\n")
    else:
        (root / _ISSUE).unlink(missing_ok=True)
        (root / _MOTD).unlink(missing_ok=True)
    run(["/sbin/agetty", "--reload"], timeout_s=_RELOAD_S)


def _line(text: str) -> str:
    """Return a text as it may stand on a console: one line, without control characters."""
    return "".join(c if c.isprintable() else "?" for c in " ".join(text.split()))


def _prefix() -> str:
    return _ERR if os.environ.get("JOURNAL_STREAM") else ""
