"""Goes through a job wave by wave; after each step the file on disk says how far it is."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from builder.fleet.engine import Answers, Listener
from builder.fleet.job import (
    ABORTED,
    BAD,
    DONE,
    HALTED,
    HELD,
    PAUSED,
    RUNNING,
    TAKEN,
    UNTOUCHED,
    WAITING,
    Job,
    Result,
)
from builder.fleet.store import ABORT, PAUSE, Store
from builder.fleet.waves import Candidate, next_wave, serving_by_model

Say = Callable[[str, str], None]


class Plays(Protocol):
    """What runs playbooks: the engine, or a test's stand-in."""

    def run(
        self,
        playbook: str,
        names: Sequence[str],
        variables: Mapping[str, Any],
        listener: Listener | None = None,
    ) -> Answers:
        """Run a playbook on some nodes."""
        ...


@dataclass
class Conductor:
    """`candidates` are all nodes of the job and their like, by what they serve now.

    `say` hears a node (or nothing) and what came of it, `step` a node and what it does now.
    """

    store: Store
    engine: Plays
    candidates: Sequence[Candidate]
    say: Say
    step: Say
    sleep: Callable[[float], None] = time.sleep
    serving: dict[str, set[str]] = field(init=False)

    def __post_init__(self) -> None:
        self.serving = serving_by_model(self.candidates)

    def go(self, job: Job) -> Job:
        """Go on with a job until it is over, or somebody wants a pause; returns how it stands."""
        job = self._save(job.at(RUNNING))
        while job.state == RUNNING:
            job = self._save(self._step(job))
        return job

    def _step(self, job: Job) -> Job:
        for wish in (ABORT, PAUSE):
            if self.store.wished(wish):
                self.store.forget(wish)
                return job.at(ABORTED if wish == ABORT else PAUSED, "somebody wanted it so")
        if job.wave == 0 and (proven := job.proven()):
            return self._soak(job, proven)
        wave = job.of([TAKEN]) or self._next(job)
        if not wave:
            return self._end(job)
        job = self._wave(job, wave)
        return self._judged(job)

    def _next(self, job: Job) -> list[str]:
        waiting = set(job.of([WAITING]))
        left = [one for one in self.candidates if one.name in waiting]
        return next_wave(job.wave, left, self.serving, job.limits, len(job.hosts))

    def _wave(self, job: Job, names: Sequence[str]) -> Job:
        which = f"wave {job.wave}" if job.wave else "canary"
        self.say("", f"{which}: {', '.join(names)}")
        job = self._save(job.put({one: Result(outcome=TAKEN, wave=job.wave) for one in names}))
        results: dict[str, Result] = {}

        def told(name: str, result: Result) -> None:
            results[name] = result.model_copy(update={"wave": job.wave})
            self.store.save(job.put(results))
            self.say(name, f"{result.outcome}{': ' if result.text else ''}{result.text}")

        listener = Listener(told, self.step)
        variables = {**job.variables, "fleet_job": f"{job.kind} {job.name}", "fleet_who": job.who}
        answers = self.engine.run(job.kind, names, variables, listener)
        for name, result in answers.results.items():
            if name not in results:
                told(name, result)
        self._forget(name for name, one in results.items() if one.outcome in BAD - UNTOUCHED)
        return job.put(results)

    def _forget(self, names: Iterable[str]) -> None:
        """Count no more on nodes to serve."""
        gone = set(names)
        self.serving = {model: names - gone for model, names in self.serving.items()}

    def _judged(self, job: Job) -> Job:
        """Return the job after a wave: one wave further, or halted.

        The first wave is over when a node has it and was looked at for a while.
        """
        if job.wave == 0:
            bad = [name for name in job.of(BAD) if job.hosts[name].wave == 0]
            if bad:
                first = job.hosts[bad[0]]
                return self._halt(job, f"{bad[0]}, the first node: {first.outcome}: {first.text}")
            return job
        percent = job.failed_percent()
        if percent > job.limits.max_failed_percent:
            most = job.limits.max_failed_percent
            return self._halt(job, f"{percent:.0f} % failed, {most:g} % may")
        return job.model_copy(update={"wave": job.wave + 1})

    def _halt(self, job: Job, why: str) -> Job:
        self.say("", f"halted: {why}")
        return job.at(HALTED, why)

    def _end(self, job: Job) -> Job:
        held = job.of([WAITING])
        why = f"a model would have fewer than {job.limits.min_replicas} that serve it"
        job = job.put({name: Result(outcome=HELD, text=why) for name in held})
        return job.at(DONE, f"{len(held)} held back: {why}" if held else "")

    def _soak(self, job: Job, names: Sequence[str]) -> Job:
        """Look at the canary for a while; a look that finds something wrong halts the job."""
        left = job.limits.soak_s
        self.say("", f"soaking for {left:g} s: {', '.join(names)}")
        while True:
            answers = self.engine.run("verify", names, job.variables)
            bad = {
                name: Result(outcome="bad", text=f"while soaking: {one.text}", wave=job.wave)
                for name, one in answers.results.items()
                if one.outcome != "well"
            }
            if bad:
                job = job.put(bad)
                return self._halt(job, "; ".join(f"{n}: {one.text}" for n, one in bad.items()))
            if left <= 0 or self.store.wished(ABORT) or self.store.wished(PAUSE):
                break
            self.sleep(min(job.limits.look_s, left))
            left -= job.limits.look_s
        if left > 0:
            return job  # the wish is heard next, and a job that goes on soaks anew
        return job.model_copy(update={"wave": job.wave + 1})

    def _save(self, job: Job) -> Job:
        self.store.save(job)
        return job
