"""Tells how serving stands: systemd, the journal, `/run/imgnode/serve.json`, metrics."""

from __future__ import annotations

import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from imgnode import metrics
from imgnode.fault import Fault
from imgnode.files import write_atomic
from imgnode.serve import names
from imgnode.serve.choice import TRIES, Choice, digest
from imgnode.serve.facts import read_json
from imgnode.serve.notify import READY, notify, status

FILE = names.TOLD
LOADING, SERVING, FAILED, SKIPPED, STOPPED = STATES = names.STATES
FETCH, COPY = UNTIMED = names.UNTIMED
_ERR, _WARNING = "<3>", "<4>"  # sd-daemon(3): the journal's priorities


@dataclass
class Reporter:
    """Tells of one start of the service; `began` is time.monotonic() at its beginning.

    `copied` says that Docker runs a copy of the image, not the layers themselves.
    """

    choice: Choice
    began: float
    root: Path = Path("/")
    copied: bool = False

    def open(self) -> None:
        """Say what is begun, loudly when it is not what is wanted."""
        if self.choice.fallback:
            print(f"{_ERR}{fallback_text(self.choice)}", file=sys.stderr, flush=True)
        self.loading("starting")

    def loading(self, text: str, phase: str = "load") -> None:
        """Say what is being waited for."""
        notify(status(f"{text}{self._note()}"))
        self._write(LOADING, text, phase=phase)

    def copying(self, why: str) -> None:
        """Say loudly that Docker makes a copy of the image, and why."""
        self.copied = True
        print(f"{_WARNING}{why}", file=sys.stderr, flush=True)
        self.loading(why, COPY)

    def progress(self, text: str) -> None:
        """Say how a wait goes on: the status line alone."""
        notify(status(f"{text}{self._note()}"))

    def serving(self, text: str, ready_s: float) -> None:
        """Say that the first token is there, so many seconds after the beginning."""
        print(text, flush=True)
        self._write(SERVING, text, ready_s=ready_s)
        notify(READY, status(f"{text}{self._note()}"))

    def failed(self, fault: Fault, starts: int) -> None:
        """Say why this start failed; `starts` is how often the wanted config has by now."""
        print(f"{_ERR}serving failed ({fault.kind}): {fault}", file=sys.stderr, flush=True)
        notify(status(f"failed ({fault.kind}): {fault}"))
        self._write(FAILED, str(fault), fault=fault, starts=starts)

    def stopped(self) -> None:
        """Say that the service was told to end."""
        self._write(STOPPED, "stopped")

    def _note(self) -> str:
        return f" ({fallback_text(self.choice)})" if self.choice.fallback else ""

    def _write(
        self,
        state: str,
        text: str,
        *,
        phase: str | None = None,
        fault: Fault | None = None,
        ready_s: float | None = None,
        starts: int | None = None,
    ) -> None:
        count = self.choice.attempt.count if starts is None else starts
        if state == SERVING and not self.choice.fallback:
            count = 0
        told = {
            "state": state,
            "phase": phase,
            "text": text,
            "began": self.began,
            "since": int(time.time()),
            "wanted": _config(self.choice.wanted),
            "in_force": _config(self.choice.in_force),
            "fallback": self.choice.fallback,
            "starts_failed": count,
            "error": _error(fault, self.choice),
            "ready_seconds": ready_s,
            "image_copied": self.copied,
        }
        write(told, self.root)


def skipped(root: Path = Path("/")) -> None:
    """Say that there is nothing to serve. Raises OSError."""
    told: dict[str, Any] = dict.fromkeys(
        ("phase", "began", "wanted", "in_force", "error", "ready_seconds")
    )
    told |= {
        "state": SKIPPED,
        "image_copied": False,
        "text": "no container in this image, or no model in its config",
    }
    write({**told, "fallback": False, "starts_failed": 0, "since": int(time.time())}, root)


def write(told: dict[str, Any], root: Path = Path("/")) -> None:
    """Write the state file and the metrics. Raises OSError."""
    write_atomic(root / FILE, json.dumps(told, indent=1) + "\n")
    ready = told["ready_seconds"]
    metrics.write(
        "serve",
        {
            metrics.SERVE_STATE: {(("state", one),): int(one == told["state"]) for one in STATES},
            metrics.SERVE_FALLBACK: {(): int(told["fallback"])},
            metrics.SERVE_STARTS_FAILED: {(): told["starts_failed"]},
            metrics.MODEL_READY: {} if ready is None else {(): ready},
        },
        root,
    )


def read(root: Path = Path("/")) -> dict[str, Any] | None:
    """Return what was told last, None before the service has run."""
    return read_json(root / FILE)


def fallback_text(choice: Choice) -> str:
    """Return the sentence about a config that is not served."""
    model = choice.wanted.get("model")
    why = choice.attempt.error or "no reason is known"
    return f"FALLBACK: {model} did not come up {TRIES} times, serving the last good config: {why}"


def lines(told: dict[str, Any] | None) -> list[str]:
    """Return the lines of `imgnode status`."""
    if told is None:
        return []
    found = [f"serve    {told['state']}: {told['text']}"]
    if told["fallback"]:
        found.append("serve    FALLBACK: the last good config is served, not the wanted one")
    if told["image_copied"]:
        found.append("serve    COPY: Docker takes no seeded layers, only a copy of the image")
    if told["error"] and told["state"] != FAILED:
        found.append(f"serve    {told['error']['kind']}: {told['error']['text']}")
    return found


def _config(settings: Any) -> dict[str, Any]:  # noqa: ANN401 - a map of any values
    return {"digest": digest(settings), "settings": settings}


def _error(fault: Fault | None, choice: Choice) -> dict[str, str | None] | None:
    if fault is not None:
        return {"kind": fault.kind, "text": str(fault)}
    if choice.attempt.count:
        return {"kind": choice.attempt.kind, "text": choice.attempt.error}
    return None
