"""Whether a server gets on: what each look at it saw, judged over time. Pure, no clock of its own.

A stopped server uses no processor, a busy one does, and one that makes tokens counts them. So:

- counters that move, or nothing to do: it gets on;
- no movement and no use of the processor: stalled after QUIET_S;
- no movement while a processor is used: it may compute. With GPUs an engine spins while it waits
  for them, so that proves little, and no step of theirs takes SPIN_GPU_S. Without GPUs, or where
  the server is too busy to answer, only SPIN_S of it are a stall.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from enum import StrEnum

QUIET_S = 35.0
SPIN_GPU_S = 120.0
SPIN_S = 3600.0
# Of one processor. A stopped server uses none at all, and a busy one most of one; but on a starved
# machine it was seen with 8 %. One that answers uses a little for its answers, too.
_USED, _USED_SILENT = 0.05, 0.02
_SLEPT_S = 60.0  # longer between two looks: the machine was paused, or we were
_QUEUE_S = 20.0  # requests that wait for less are no sign of too much work
# vllm/v1/metrics/loggers.py of 0.32.0; the engine itself moves them, not the API server.
_WORK = ("vllm:num_requests_running", "vllm:num_requests_waiting")
_MARKS = (
    "vllm:generation_tokens_total",
    "vllm:prompt_tokens_total",
    "vllm:iteration_tokens_total_count",
    "vllm:kv_cache_usage_perc",
)
_LINE = re.compile(
    rf"^({'|'.join((*_WORK, *_MARKS))})(?:\{{.*\}})? ([0-9.eE+-]+|NaN)$", re.MULTILINE
)


class Class(StrEnum):
    """How the node serves (architecture: health is forward progress, not HTTP 200)."""

    OFF = "off"  # nothing is wanted here
    DEAD = "dead"
    LOADING = "loading"
    STALLED = "stalled"
    SATURATED = "saturated"
    IDLE = "idle"
    SERVING = "serving"


@dataclass(frozen=True)
class Load:
    """What vLLM counts: requests now, tokens since it started; `marks` move with progress."""

    running: float
    waiting: float
    generated: float
    prompted: float
    marks: tuple[float, ...]


NOTHING = Load(0, 0, 0, 0, ())


def read_load(text: str) -> Load | None:
    """Return what stands in vLLM's /metrics, all engines together; None where it is not vLLM's."""
    found: dict[str, float] = {}
    for name, value in _LINE.findall(text):
        found[name] = found.get(name, 0.0) + float(value)
    if not {*_WORK, _MARKS[0]} <= found.keys():
        return None
    running, waiting = (found[name] for name in _WORK)
    marks = tuple(found.get(name, 0.0) for name in _MARKS)
    return Load(running, waiting, marks[0], marks[1], marks)


@dataclass
class Progress:
    """What is remembered of one start of the server.

    `spin_s` is how long it may use a processor and answer without any movement, in seconds.
    """

    spin_s: float = SPIN_S
    moved_at: float = 0.0  # when its counters last moved
    generated_s: float = 0.0  # tokens a second between the last two looks
    _fine_at: float = field(init=False, default=0.0)  # the same, or when it had nothing to do
    _seen_at: float | None = field(init=False, default=None)
    _used_at: float = field(init=False, default=0.0)
    _free_at: float = field(init=False, default=0.0)  # when nothing waited, last
    _load: Load | None = field(init=False, default=None)
    _cpu: float | None = field(init=False, default=None)

    def see(self, at: float, load: Load | None, cpu: float | None, *, owed: bool) -> Class:
        """Judge one look at `at` seconds: its counters (None: it did not answer in time).

        `cpu` is how many seconds of a processor the container has used in all, None where that is
        not known; `owed` says that a request of ours has been waiting for a token.
        """
        last, before = self._seen_at, self._load
        if last is None or at - last > _SLEPT_S:
            self.moved_at = self._fine_at = self._used_at = self._free_at = at
        moved = load is not None and (before is None or load.marks != before.marks)
        wanted = load is None or owed or load.running + load.waiting > 0
        if moved:
            self.moved_at = at
        if moved or not wanted:
            self._fine_at = at
        if last is None or self._uses_processor(at - last, cpu, _USED if load else _USED_SILENT):
            self._used_at = at
        self._count(load, before, at - last if last is not None else 0.0)
        self._seen_at, self._cpu = at, cpu
        self._load = load or before
        if load is not None and not load.waiting:
            self._free_at = at
        return self._judge(at, load, moved=moved, wanted=wanted)

    def still_s(self, at: float) -> float:
        """Return for how many seconds it has had something to do and has not got on."""
        return round(at - self._fine_at, 1)

    def _judge(self, at: float, load: Load | None, *, moved: bool, wanted: bool) -> Class:
        limit = SPIN_S if load is None else self.spin_s
        quiet_for = at - max(self._fine_at, self._used_at)
        if quiet_for >= QUIET_S or at - self._fine_at >= limit:
            return Class.STALLED
        if load is None or at - self._free_at >= _QUEUE_S:
            return Class.SATURATED
        return Class.SERVING if moved or wanted else Class.IDLE

    def _uses_processor(self, passed: float, cpu: float | None, least: float) -> bool:
        """Tell whether the container used a processor since the last look; unknown counts as so."""
        if cpu is None or self._cpu is None or cpu < self._cpu or passed <= 0:
            return True
        return cpu - self._cpu >= least * passed

    def _count(self, load: Load | None, before: Load | None, passed: float) -> None:
        made = load.generated - before.generated if load and before else 0.0
        self.generated_s = round(made / passed, 2) if passed > 0 and made > 0 else 0.0
