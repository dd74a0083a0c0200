"""A token of our own, now and then: an engine that hangs while nobody asks shows it no other way.

vLLM's gauges come from the engine: while it hangs they say that nothing runs and nothing waits.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from imgnode.fault import Fault
from imgnode.serve import probe, secrets
from imgnode.serve.facts import read_facts

EVERY_S = 60.0
_LIMIT_S = 120.0  # one token may take a minute on an emulated processor
Ask = Callable[[dict[str, Any], Path], str | None]


def ask_token(settings: dict[str, Any], root: Path = Path("/")) -> str | None:
    """Ask for one token of a config that is served; None for a token, else what came instead.

    Raises Fault where the config names a secret that is not here.
    """
    key = secrets.resolve(settings, secrets.credentials(root)).api_key
    name = settings.get("served_name") or settings["model"]
    return probe.token(read_facts(root).serve.port, name, key, timeout_s=_LIMIT_S)


def in_thread(work: Callable[[], None]) -> None:
    """Do it beside us; what hangs is left behind."""
    threading.Thread(target=work, daemon=True).start()


@dataclass
class Prober:
    """Asks one question at a time; its answer is seen at a later look."""

    root: Path = Path("/")
    ask: Ask = ask_token
    beside: Callable[[Callable[[], None]], None] = in_thread
    wrong: int = 0  # answers without a token, in a row
    said: str | None = None  # what came instead, last
    ours: bool = False  # the question itself is wrong: a key or a name
    seconds: float | None = None  # how long the last token took
    owed: bool = False  # a token was asked for and has not come yet
    _began: float | None = field(init=False, default=None)
    _asking: bool = field(init=False, default=False)

    def due(self, now: float, moved_at: float) -> bool:
        """Tell whether it is time for a question: for a while nothing moved, nor was asked."""
        latest = moved_at if self._began is None else max(moved_at, self._began)
        return not self._asking and now - latest >= EVERY_S

    def begin(self, settings: dict[str, Any], clock: Callable[[], float]) -> None:
        """Ask for a token of the config that is served."""
        began = clock()
        self._began, self._asking, self.owed = began, True, True

        def work() -> None:
            said, ours = "our own question failed: see the journal", True
            try:
                answer = self.ask(settings, self.root)
                said, ours = answer or "", (answer or "").startswith("HTTP 4")
            except Fault as fault:
                said = str(fault)
            finally:
                self._end(said, clock() - began, ours=ours)

        self.beside(work)

    def forget(self) -> None:
        """Hold nothing against a server that moves, or is another one."""
        self.wrong, self.said, self.owed = 0, None, False

    def _end(self, said: str, seconds: float, *, ours: bool) -> None:
        """Note an answer; an empty text is a token. What timed out is still owed."""
        self._asking, self.said, self.ours = False, said or None, ours
        self.owed = self.owed and said == probe.TIMED_OUT
        self.wrong = self.wrong + 1 if said else 0
        if not said:
            self.seconds = round(seconds, 3)
