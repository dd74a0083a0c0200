"""Serving: whether the server gets on, by its counters and its use of processors."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from imgnode import fault, loopback
from imgnode.gate import quarantine, systemd
from imgnode.health.container import Container
from imgnode.health.contract import Finding, Level, Remedy
from imgnode.health.prober import Prober
from imgnode.health.progress import NOTHING, SPIN_GPU_S, SPIN_S, Class, Load, Progress, read_load
from imgnode.serve.facts import read_facts, read_json

NAME = "serve"
UNIT = "vllm.service"
TOLD = Path("run/imgnode/serve.json")  # imgnode/serve/report.py
_CGROUP = Path("sys/fs/cgroup/system.slice/vllm.service/cgroup.procs")
_SCRAPE_S = 5.0
_REFUSED = 2  # looks in a row: once may be the moment in which the container ends
_AGAIN_S = 60.0  # systemd starts it again by itself; dead for longer is more than that
_STARTS = 3  # so many that failed, and the runner has fallen back to the last good config
_SPARE_S = 600.0
_PROBES = 2
_HINT = "journalctl -b -u vllm; imgnode model show"
# By the kind of fault (imgnode/fault.py): what may mend it. Others tell of mirrors, disks, GPUs.
_REMEDY: Mapping[str, Remedy] = {
    fault.CONFIG: Remedy.CONFIG,
    fault.TIMEOUT: Remedy.SERVE,
    fault.CONTAINER: Remedy.SERVE,
    fault.DOCKER: Remedy.DOCKER,
}
Told = dict[str, Any]
Scrape = Callable[[int], Load | None]


def scrape(port: int) -> Load | None:
    """Return what vLLM counts, None when it does not tell in time.

    A server without vLLM's metrics has nothing to do as far as they say: our own tokens judge it.
    Raises OSError when nobody listens.
    """
    try:
        answer = loopback.ask(port, "/metrics", limit_s=_SCRAPE_S)
    except TimeoutError:
        return None
    return read_load(answer.text) or NOTHING


def read_unit() -> Mapping[str, str]:
    """Return how systemd sees the service. Raises OSError when it does not answer."""
    return systemd.properties(UNIT, "ActiveState", "Job")


@dataclass
class ServeCheck:
    """Whether the node serves what it should."""

    root: Path = Path("/")
    unit: Callable[[], Mapping[str, str]] = read_unit
    scrape: Scrape = scrape
    cpu: Callable[[], float | None] | None = None
    prober: Prober | None = None
    clock: Callable[[], float] = time.monotonic
    name: str = NAME
    every_s: float = 10.0
    verdict: Class = field(init=False, default=Class.OFF)
    _figures: dict[str, float | str] = field(init=False, default_factory=dict)
    _progress: Progress = field(init=False, default_factory=Progress)
    _began: object = field(init=False, default=None)  # the start that `_progress` is about
    _refused: int = field(init=False, default=0)
    _dead_at: float | None = field(init=False, default=None)
    _loads_at: float | None = field(init=False, default=None)
    _failed: set[object] = field(init=False, default_factory=set)  # starts since it last served

    def __post_init__(self) -> None:
        self.cpu = self.cpu or Container(self.root).cpu_s
        self.prober = self.prober or Prober(self.root)

    def supported(self) -> bool:
        """Every image has the service; one without a container says that it is skipped."""
        return True

    def look(self, now: float) -> list[Finding]:
        """Look once: up to ten seconds. Raises OSError when systemd does not answer."""
        self._figures = {}
        told = read_json(self.root / TOLD)
        found, self.verdict = self._judge(told, now)
        if self.verdict is not Class.DEAD:
            self._dead_at = None
        if self.verdict is not Class.LOADING:
            self._loads_at = None
        return found

    def tell(self) -> Mapping[str, object]:
        """Return class and figures of the last look, for /run/imgnode/health.json."""
        prober = self.prober
        probe = {"seconds": prober.seconds, "said": prober.said} if prober else {}
        return {"class": str(self.verdict), "figures": self._figures, "probe": probe}

    def _judge(self, told: Told | None, now: float) -> tuple[list[Finding], Class]:
        if not self._runs():
            resting = self._at_rest(told, self.unit(), now)
            if resting is not None:
                return resting
        state = told["state"] if told else None
        if told is None or state in ("loading", "skipped", "stopped"):
            return self._loading(told, now)
        if state == "failed":
            return self._dead(_reason(told), _REMEDY.get(_kind(told), Remedy.NONE), told, now)
        return self._serving(told, now)

    def _runs(self) -> bool:
        """Tell whether the runner lives, without asking systemd each time."""
        try:
            return bool((self.root / _CGROUP).read_text().strip())
        except OSError:
            return False

    def _at_rest(
        self, told: Told | None, unit: Mapping[str, str], now: float
    ) -> tuple[list[Finding], Class] | None:
        """Judge a service without a process; None where it starts by itself just now."""
        why = quarantine.read(self.root)
        if why is not None:
            return [_finding("quarantine", Level.FAILED, f"in quarantine: {why}")], Class.OFF
        if unit["ActiveState"] == "failed":
            return self._dead(f"{UNIT} cannot be started", Remedy.SERVE, told, now)
        if unit["ActiveState"] != "inactive" or systemd.has_job(unit):
            return None
        if told and told["state"] in ("serving", "loading"):
            return self._dead(f"{UNIT} ended without a word", Remedy.SERVE, told, now)
        if told and told["state"] == "skipped":
            return [], Class.OFF
        return [_finding("stopped", Level.WARNING, f"{UNIT} was stopped, or is masked")], Class.OFF

    def _dead(
        self, fact: str, remedy: Remedy, told: Told | None, now: float
    ) -> tuple[list[Finding], Class]:
        """Nobody serves. systemd starts it again: only what lasts or comes back is more."""
        self._dead_at = now if self._dead_at is None else self._dead_at
        if told and told["state"] == "failed":
            self._failed.add(told["since"])
        lasting = now - self._dead_at >= _AGAIN_S or len(self._failed) >= _STARTS
        if not lasting:
            return [_finding("dead", Level.WARNING, f"{fact}; it is started again")], Class.DEAD
        return [_finding("dead", Level.FAILED, fact, remedy)], Class.DEAD

    def _loading(self, told: Told | None, now: float) -> tuple[list[Finding], Class]:
        """Wait: fetching and copying take what they take, loading ends within its own limit."""
        timed = told is not None and told["phase"] not in ("fetch", "copy")
        if not timed or self._loads_at is None:
            self._loads_at = now
        limit = read_facts(self.root).serve.start_timeout_s + _SPARE_S
        if now - self._loads_at > limit:
            fact = f"{UNIT} has been starting for more than {limit:.0f} s"
            return [_finding("loading", Level.FAILED, fact, Remedy.SERVE)], Class.LOADING
        if len(self._failed) >= _STARTS:
            fact = f"{len(self._failed)} starts failed since it last served"
            return [_finding("restarts", Level.WARNING, fact)], Class.LOADING
        return [], Class.LOADING

    def _serving(self, told: Told, now: float) -> tuple[list[Finding], Class]:
        facts = read_facts(self.root)
        prober = self.prober or Prober(self.root)
        if told["began"] != self._began:
            self._progress = Progress(SPIN_GPU_S if facts.gpu else SPIN_S)
            self._began, self._refused = told["began"], 0
            prober.forget()
        try:
            load = self.scrape(facts.serve.port)
        except OSError as error:
            return self._unheard(error, told, now)
        self._refused = 0
        used = self.cpu() if self.cpu else None
        verdict = self._progress.see(now, load, used, owed=prober.owed)
        self._note(load, used, now)
        if verdict is Class.STALLED:
            return [self._stalled(load, now)], verdict
        self._failed.clear()
        if self._progress.moved_at == now:
            prober.forget()
        if verdict is not Class.IDLE:
            return [], verdict
        if prober.due(now, self._progress.moved_at):
            prober.begin(told["in_force"]["settings"], self.clock)
        return _by_probe(prober), verdict

    def _unheard(self, error: OSError, told: Told, now: float) -> tuple[list[Finding], Class]:
        self._refused += 1
        if self._refused < _REFUSED:
            return [], self.verdict
        state = self.unit()["ActiveState"]
        if state != "active":  # it is being stopped, or has just been started
            return [], Class.OFF if state == "deactivating" else Class.LOADING
        fact = f"the server does not take connections, though it says it serves: {error}"
        self._dead_at = now - _AGAIN_S  # the runner sees nothing wrong: nobody starts it again
        return self._dead(fact, Remedy.SERVE, told, now)

    def _stalled(self, load: Load | None, now: float) -> Finding:
        still = self._progress.still_s(now)
        if load is None:
            fact = f"stalled: it takes connections and does not answer, for {still:.0f} s"
        else:
            waits = f"{load.running:.0f} requests run, {load.waiting:.0f} wait"
            fact = f"stalled: {waits}, and no token for {still:.0f} s"
        return _finding("stalled", Level.FAILED, fact, Remedy.SERVE, self._figures)

    def _note(self, load: Load | None, used: float | None, now: float) -> None:
        figures: dict[str, float | str] = {"still_s": self._progress.still_s(now)}
        if used is not None:
            figures["cpu_s"] = round(used, 1)
        if load is not None:
            figures |= {"running": load.running, "waiting": load.waiting}
            figures |= {"generation_tokens": load.generated, "prompt_tokens": load.prompted}
            figures |= {"tokens_per_s": self._progress.generated_s}
        self._figures = figures


def _by_probe(prober: Prober) -> list[Finding]:
    """Judge our own requests: that one is refused may be the key's or the name's fault."""
    if prober.wrong < _PROBES:
        return []
    fact = f"no token, though it says it serves: {prober.said}"
    if prober.ours:
        return [_finding("token", Level.WARNING, fact)]
    return [_finding("token", Level.FAILED, fact, Remedy.SERVE)]


def _kind(told: Told) -> str:
    return str((told["error"] or {}).get("kind"))


def _reason(told: Told) -> str:
    error = told["error"] or {"kind": "unknown", "text": "no reason is known"}
    return f"{error['kind']}: {error['text']}"


def _finding(
    key: str,
    level: Level,
    fact: str,
    remedy: Remedy = Remedy.NONE,
    evidence: Mapping[str, float | str] | None = None,
) -> Finding:
    return Finding(NAME, key, level, fact, _HINT, remedy, evidence=evidence or {})
