"""Why a backup was not made, not verified or not brought back."""

from __future__ import annotations

SPACE = "space"  # /var is too full, or the state too large
VOLATILE = "volatile"  # /var is in memory: there is nothing worth keeping
REACH = "reach"  # the remote does not answer
SECRET = "secret"  # noqa: S105 - the seed names one that is not on the node
KEY = "key"  # the repository was made with another key
MISSING = "missing"  # no repository, or no such backup
DAMAGED = "damaged"  # not what was written
BUSY = "busy"  # another run
RESTIC = "restic"  # whatever else it says
KINDS = (SPACE, VOLATILE, REACH, SECRET, KEY, MISSING, DAMAGED, BUSY, RESTIC)


class Trouble(Exception):
    """One reason: its kind, the fact, and what to do about it."""

    def __init__(self, kind: str, fact: str, hint: str | None = None) -> None:
        super().__init__(f"{fact} (hint: {hint})" if hint else fact)
        self.kind = kind


class WrongCall(Exception):
    """Something was asked for that cannot be; nothing was changed."""

    def __init__(self, fact: str, hint: str) -> None:
        super().__init__(f"{fact} (hint: {hint})")
