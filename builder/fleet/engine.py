"""Runs playbooks by ansible-runner, and takes from its events what came of each node."""

from __future__ import annotations

import signal
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ansible_runner

from builder.core.errors import UserError
from builder.core.files import remove_tree
from builder.fleet.job import LOST, UNREACHABLE, Result
from builder.fleet.place import Place

_KEPT_RUNS = 20
_TEXT = 400
Told = Callable[[str, Result], None]
Step = Callable[[str, str], None]


def _nothing(_name: str, _what: object) -> None:
    pass


@dataclass
class Answers:
    """What came of nodes, and what they said (`imgnode status --json`), by name."""

    results: dict[str, Result] = field(default_factory=dict)
    said: dict[str, dict[str, Any]] = field(default_factory=dict)


@dataclass
class Listener:
    """Collects events of one run; `told` hears each result once, `step` what a node does now."""

    told: Told = _nothing
    step: Step = _nothing
    answers: Answers = field(default_factory=Answers)

    def hear(self, event: Mapping[str, Any]) -> bool:
        """Take one event; returns whether ansible-runner is to keep it, which nobody needs."""
        kind, data = event.get("event", ""), event.get("event_data", {})
        name = data.get("host")
        if kind == "runner_on_start" and name:
            self.step(name, str(data.get("task", "")))
        elif kind == "runner_on_unreachable" and name:
            # It may be back, where the playbook waits for that.
            self.answers.results[name] = Result(outcome=UNREACHABLE, text=_message(data))
        elif kind == "runner_on_ok" and name:
            self._facts(name, (data.get("res") or {}).get("ansible_facts") or {})
        elif kind == "runner_on_failed" and name and not data.get("ignore_errors"):
            # A rescue may follow, and say more.
            self.answers.results.setdefault(name, Result(outcome="failed", text=_message(data)))
        return False

    def _facts(self, name: str, facts: Mapping[str, Any]) -> None:
        if "fleet_status" in facts:
            self.answers.said[name] = facts["fleet_status"]
        outcome = facts.get("fleet_outcome")
        if outcome:
            self._end(name, Result(**{key: str(one) for key, one in outcome.items()}))

    def _end(self, name: str, result: Result) -> None:
        self.answers.results[name] = result
        self.told(name, result)


def _message(data: Mapping[str, Any]) -> str:
    result = data.get("res") or {}
    text = str(result.get("stderr") or result.get("msg") or "no reason was given")
    return " ".join(text.split()).removeprefix("Task failed: ")[:_TEXT]


@dataclass(frozen=True)
class Engine:
    """Runs the playbooks of one place; a run takes all its nodes at once, up to `forks`."""

    place: Place
    forks: int = 32

    def run(
        self,
        playbook: str,
        names: Sequence[str],
        variables: Mapping[str, Any],
        listener: Listener | None = None,
    ) -> Answers:
        """Run a playbook on some nodes; those that it says nothing of are LOST.

        Raises UserError when Ansible does not run at all, KeyboardInterrupt when it was ended.
        """
        heard = listener or Listener()
        folder = self._folder()
        (folder / "hosts").write_text("".join(f"{name}\n" for name in names))
        with _signals_kept():
            done = ansible_runner.run(
                private_data_dir=str(folder),
                project_dir=str(self.place.home),  # where it runs
                playbook=str(self.place.playbooks / f"{playbook}.yml"),
                inventory=str(self.place.inventory),
                limit=f"@{folder / 'hosts'}",
                extravars={"fleet_serial": "100%", "fleet_max_failed_percent": 100, **variables},
                envvars=self.place.environment(),
                suppress_env_files=True,
                forks=min(self.forks, len(names)),
                event_handler=heard.hear,
                quiet=True,
            )
        if done.status == "canceled":
            raise KeyboardInterrupt
        answers = heard.answers
        if not answers.results and not answers.said:
            raise UserError(_why(done, playbook), hint="ansible-playbook --syntax-check")
        for name in names:
            if name not in answers.results and name not in answers.said:
                answers.results[name] = Result(outcome=LOST, text="Ansible says nothing of it")
        return answers

    def _folder(self) -> Path:
        """Make a folder for one run, of which the newest stay: its output is for people."""
        runs = self.place.state / "runs"
        runs.mkdir(parents=True, exist_ok=True)
        for old in sorted(runs.iterdir(), key=lambda one: one.stat().st_mtime)[:-_KEPT_RUNS]:
            remove_tree(old)
        return Path(tempfile.mkdtemp(prefix=time.strftime("%Y%m%d-%H%M%S-"), dir=runs))


@contextmanager
def _signals_kept() -> Iterator[None]:
    """ansible-runner takes SIGINT and SIGTERM, and does not give them back."""
    kept = {one: signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for one, handler in kept.items():
            signal.signal(one, handler)


def _why(done: Any, playbook: str) -> str:  # noqa: ANN401 - ansible-runner ships no types
    text = Path(done.config.artifact_dir, "stdout")
    tail = text.read_text(errors="replace").splitlines()[-15:] if text.exists() else []
    return "\n".join([f"{playbook}: Ansible ended with {done.rc}", *(f"    {one}" for one in tail)])
