"""Reads what `systemd-analyze time` and `systemd-analyze blame` print on a node."""

from __future__ import annotations

import re

from builder.core.errors import UserError
from builder.model.timeline import Span, Timeline

_TIME = r"(?:(?:\d+h )?(?:\d+min )?(?:[\d.]+(?:ms|s))?)"
_PHASE = re.compile(rf"({_TIME}) \((firmware|loader|kernel|initrd|userspace)\)")
_UNIT = re.compile(rf"^\s*({_TIME}) (\S+\.\w+)$")
_PART = re.compile(r"([\d.]+)(h|min|ms|s)")
_SECONDS = {"h": 3600.0, "min": 60.0, "s": 1.0, "ms": 0.001}
_SLOWEST = 15


def read_boot(text: str) -> tuple[Timeline, Timeline]:
    """Return the phases of a boot, one after the other, and its slowest units.

    Raises UserError when the text has no phases.
    """
    phases, at = [], 0.0
    for words, name in _PHASE.findall(text):
        took = _seconds(words)
        phases.append(Span(name=name, start=at, seconds=took))
        at += took
    if not phases:
        hint = "(systemd-analyze time; systemd-analyze blame) > FILE, on the node"
        raise UserError("the boot's times: there are no phases of a boot in it", hint=hint)
    found = (match for line in text.splitlines() if (match := _UNIT.match(line)))
    units = [Span(name=match[2], start=0, seconds=_seconds(match[1])) for match in found]
    slowest = sorted(units, key=lambda unit: -unit.seconds)[:_SLOWEST]
    return Timeline(spans=tuple(phases)), Timeline(spans=tuple(slowest))


def _seconds(words: str) -> float:
    return sum(float(number) * _SECONDS[unit] for number, unit in _PART.findall(words))
