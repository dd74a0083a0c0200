"""Asks in the background whether the mirror has moved on since the lock."""

from __future__ import annotations

import threading

from builder.core.context import Context
from builder.core.errors import UserError
from builder.lock.age import mirror_ages, stale_suites
from builder.model.lock import Lock
from builder.model.spec import Spec

_WAIT_S = 5.0


class Freshness:
    """A question to the mirror that costs the build no time."""

    def __init__(self, context: Context, spec: Spec, lock: Lock) -> None:
        self._stale: list[str] = []
        self._thread = threading.Thread(
            target=self._ask, args=(context, spec, lock), daemon=True, name="freshness"
        )
        self._thread.start()

    def answer(self) -> list[str]:
        """Return a sentence for each suite that is newer than the lock, as far as known now."""
        self._thread.join(_WAIT_S)
        return list(self._stale)

    def _ask(self, context: Context, spec: Spec, lock: Lock) -> None:
        try:
            self._stale += stale_suites(mirror_ages(context.runner, spec, lock))
        except UserError:
            return  # a mirror that cannot be asked says nothing
