"""Serving: a token really made, or the reason why there is none."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from imgnode.fault import TIMEOUT, Fault
from imgnode.gate import quarantine, systemd
from imgnode.gate.attribution import SERVE, Proof, of_fallback, of_serving
from imgnode.gate.finding import EXTERNAL, IMAGE, OK, Finding, Look, Waiting
from imgnode.layers.versions import running_stem
from imgnode.serve import probe, report, secrets
from imgnode.serve.choice import TRIES, digest, load_proven, proven_by
from imgnode.serve.command import served_name
from imgnode.serve.facts import read_facts

UNIT = "vllm.service"
_TOKEN_S = 120  # one token may take a minute on an emulated processor
_ASKED = 5  # times without a token, from a server that says it serves
_SPARE_S = 600
_HINT = "journalctl -b -u vllm; imgnode model show"
Told = dict[str, Any]
Ask = Callable[[Told, Path], str | None]


@dataclass(frozen=True)
class Unit:
    """How systemd sees the service; `restarts` counts the starts that failed in this boot."""

    state: str
    restarts: int
    queued: bool


def read_unit() -> Unit:
    """Return how the service stands. Raises OSError when systemd does not answer."""
    found = systemd.properties(UNIT, "ActiveState", "NRestarts", "Job")
    return Unit(found["ActiveState"], int(found["NRestarts"] or 0), systemd.has_job(found))


def ask_token(told: Told, root: Path = Path("/")) -> str | None:
    """Ask for one token of what is served; return None for a token, else what came instead."""
    settings = told["in_force"]["settings"]
    try:
        key = secrets.resolve(settings, secrets.credentials(root)).api_key
    except Fault as fault:
        return str(fault)
    port = read_facts(root).serve.port
    return probe.token(port, served_name(settings), key, timeout_s=_TOKEN_S)


@dataclass
class ServeCheck:
    """Whether this node serves; it waits as long as the service gets on.

    The limit is that of three starts and one of the last good config; fetching does not count.
    """

    root: Path = Path("/")
    unit: Callable[[], Unit] = read_unit
    ask: Ask = ask_token
    name: str = SERVE
    _asked: int = field(init=False, default=0)
    _error: dict[str, Any] | None = field(init=False, default=None)
    _whose_error: str = field(init=False, default="")  # the digest of the config that had it

    @property
    def limit_s(self) -> float:
        """How long it may wait in all, in seconds."""
        return (TRIES + 1) * read_facts(self.root).serve.start_timeout_s + _SPARE_S

    def look(self) -> Look:
        """Look once: a token may take two minutes."""
        unit, told = self.unit(), report.read(self.root)
        at_rest = _at_rest(unit, told)
        why = quarantine.read(self.root)
        if at_rest is not None and why is not None:
            return Look((Finding(SERVE, OK, f"nothing is served, in quarantine: {why}"),))
        if at_rest is not None:
            return Look((at_rest,))
        if told is None or told["state"] in (report.SKIPPED, report.STOPPED):
            return self._wait("the service starts", told)
        if told["state"] == report.SERVING:
            return self._serving(told)
        if told["state"] == report.FAILED:
            self._note_error(told, told["error"])
            if self._is_final(told, unit):
                return Look((self._blame(told),))
        return self._wait(told["text"], told)

    def _serving(self, told: Told) -> Look:
        """Ask for a token: that the service says so is not enough."""
        wrong = self.ask(told, self.root)
        if wrong:
            self._asked += 1
            text = f"no token, though it says it serves: {wrong}"
            self._note_error(told, {"kind": TIMEOUT, "text": text})
            if self._asked >= _ASKED:
                return Look((self._blame(told),))
            return self._wait(f"asking for a token: {wrong}", told)
        if not told["fallback"]:
            return Look((Finding(SERVE, OK, told["text"]),))
        error = told["error"] or {"kind": None, "text": "no reason is known"}
        fact = f"the last good config serves, not the wanted one ({error['kind']}: {error['text']})"
        return Look((Finding(SERVE, of_fallback(error["kind"]), fact, _HINT),))

    def _note_error(self, told: Told, error: dict[str, Any]) -> None:
        self._error, self._whose_error = error, told["in_force"]["digest"]

    def _is_final(self, told: Told, unit: Unit) -> bool:
        """Tell whether waiting for another start is of no use."""
        proven = load_proven(self.root)
        mine = told["in_force"]["digest"]
        goes_back = proven is not None and digest(proven) != mine
        if self._error and self._error["kind"] == TIMEOUT and not goes_back:
            return True  # it has had all the time that the profile gives
        return unit.restarts + 1 >= (2 * TRIES if goes_back else TRIES)

    def _blame(self, told: Told) -> Finding:
        error = {"kind": TIMEOUT, "text": "no token came"}
        if self._error and self._whose_error == told["in_force"]["digest"]:
            error = self._error
        proof = self._proof(told["in_force"]["settings"])
        whose = of_serving(error["kind"], proof)
        known = {
            Proof.NEVER: "this config has never made a token",
            Proof.HERE: "this version has served this config before",
            Proof.ELSEWHERE: f"{proven_by(told['in_force']['settings'], self.root)} served it",
        }
        return Finding(SERVE, whose, f"{error['kind']}: {error['text']}; {known[proof]}", _HINT)

    def _proof(self, settings: dict[str, Any]) -> Proof:
        by = proven_by(settings, self.root)
        if by is None:
            return Proof.NEVER
        return Proof.HERE if by == running_stem(self.root) else Proof.ELSEWHERE

    def _wait(self, text: str, told: Told | None) -> Look:
        """Say what is waited for; a model that is still being fetched is nobody's fault here."""
        fetching = told is not None and told["phase"] == report.FETCH
        if fetching:
            late = Finding(SERVE, EXTERNAL, f"the model is still being fetched: {text}", _HINT)
        elif told is None or told["in_force"] is None:
            late = Finding(SERVE, IMAGE, f"{UNIT} does not say how it stands", _HINT)
        else:
            late = self._blame(told)
        return Look(waiting=Waiting(text, late, free=fetching))


def _at_rest(unit: Unit, told: Told | None) -> Finding | None:
    """Return what it means that the service neither runs nor is about to; None where it does."""
    if unit.state == "failed":
        return Finding(SERVE, IMAGE, f"{UNIT} cannot be started", _HINT)
    if unit.state != "inactive" or unit.queued:
        return None
    if told and told["state"] == report.SKIPPED:
        return Finding(SERVE, OK, f"nothing to serve: {told['text']}")
    return Finding(SERVE, OK, f"{UNIT} does not run: it was stopped, or is masked")
