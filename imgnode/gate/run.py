"""`imgnode gate run`: look at everything once this node is up, decide, act, and tell.

The checks run in the order of cause and effect. The first finding that nothing can change any
more ends the run: a node without its GPUs does not wait half an hour for a model.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from pathlib import Path

from imgnode.alone import GATE, Lock
from imgnode.gate import consequence, quarantine, report
from imgnode.gate.attribution import FINAL, attribute
from imgnode.gate.checks.clock import ClockCheck
from imgnode.gate.checks.disk import DiskCheck
from imgnode.gate.checks.docker import DockerCheck
from imgnode.gate.checks.gpu import GpuCheck
from imgnode.gate.checks.layers import LayersCheck
from imgnode.gate.checks.serve import ServeCheck
from imgnode.gate.checks.units import UnitsCheck
from imgnode.gate.finding import IMAGE, Check, Finding, Look
from imgnode.gate.report import Verdict
from imgnode.serve.notify import notify, status

_POLL_S = 3
_FREE_S = 4 * 3600.0  # fetching that takes longer is told; it goes on meanwhile
# Without another word from us in so many seconds systemd ends the gate (sd_notify(3)); one look
# takes three minutes at most.
_SIGN_OF_LIFE = "EXTEND_TIMEOUT_USEC=600000000"


def checks(root: Path) -> tuple[Check, ...]:
    """Return all checks, causes before effects."""
    return (
        DiskCheck(root),
        ClockCheck(root),
        GpuCheck(root),
        UnitsCheck(root),
        LayersCheck(root),
        DockerCheck(root),
        ServeCheck(root),
    )


def run(root: Path = Path("/"), *, boot: bool = False) -> Verdict:
    """Judge this version on this node, act on the verdict, and return it.

    With `boot`, a version on trial that is at fault is given up by a reboot. Raises OSError for a
    full /run.
    """
    began = time.monotonic()
    lock = Lock(GATE, root)
    lock.share("the gate")  # recovery waits meanwhile
    quarantine.lift(root)
    report.begin(root)
    findings = judge(checks(root), root)
    whose, deciding = attribute(findings)
    seconds = round(time.monotonic() - began, 1)
    verdict = report.verdict(whose, deciding, findings, seconds, root)
    plan = consequence.plan(verdict, root, boot=boot)
    report.tell(verdict, plan.text, root)
    consequence.act(plan, root)
    lock.release()
    return verdict


def judge(all_checks: Sequence[Check], root: Path) -> tuple[Finding, ...]:
    """Return what the checks found, up to the first that decides."""
    findings: list[Finding] = []
    for check in all_checks:
        findings += _settle(check, root)
        if attribute(findings)[0] in FINAL:
            break
    return tuple(findings)


def _settle(check: Check, root: Path) -> Iterable[Finding]:
    """Look until the check has nothing to wait for, or its time is up."""
    spent, free, told = 0.0, 0.0, ""
    while True:
        began = time.monotonic()
        notify(_SIGN_OF_LIFE, status(f"{check.name}: {told or 'looking'}"))
        found = _guarded(check)
        if found.waiting is None:
            return found.findings
        if spent > check.limit_s or free > _FREE_S:
            return (found.waiting.late,)
        if found.waiting.text != told:
            told = found.waiting.text
            report.waiting(check.name, told, root)
            notify(status(f"{check.name}: {told}"))
        time.sleep(_POLL_S)
        passed = time.monotonic() - began
        if found.waiting.free:
            free += passed
        else:
            spent += passed


def _guarded(check: Check) -> Look:
    """Look; where the image's own files are damaged, that is what was found."""
    try:
        return check.look()
    except (OSError, ValueError, KeyError, TypeError) as error:
        fact = f"{check.name} cannot be judged: {type(error).__name__}: {error}"
        return Look((Finding(check.name, IMAGE, fact, "journalctl -b -u imgnode-gate"),))


def exit_code(verdict: Verdict) -> int:
    """Return 1 where this version must not be called good, else 0 (boot-complete.target)."""
    return int(verdict.whose == IMAGE)
