"""How a mistake in a configuration is told: `key: fact (hint: …)`."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable
from dataclasses import dataclass

_SHOWN = 60


@dataclass(frozen=True)
class Problem:
    """One mistake: the dotted key it is at, what is wrong, and what to do about it."""

    key: str
    fact: str
    hint: str | None = None

    def __str__(self) -> str:
        """Return the one line that people read."""
        line = f"{self.key}: {self.fact}"
        return f"{line} (hint: {self.hint})" if self.hint else line


def shown(value: object) -> str:
    """Return a value as it may stand in a message: one line of ASCII, never long."""
    try:
        text = json.dumps(value, default=str)
    except (ValueError, TypeError):  # a whole number of thousands of digits, a key of bytes
        text = f"a {type(value).__name__}"
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


def key_name(key: str) -> str:
    """Return a key that a stranger wrote, as it may stand in a message or a metric."""
    text = "".join(letter if letter.isprintable() else "?" for letter in key)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


def unknown_key(path: str, name: str, known: Iterable[str]) -> Problem:
    """Return the problem with a key that nobody knows, naming the nearest that is known."""
    names = sorted(known)
    near = difflib.get_close_matches(name[:_SHOWN], names, n=1)
    told = f"known keys: {', '.join(names)}"
    hint = f"did you mean '{near[0]}'? {told}" if near else told
    return Problem(f"{path}{key_name(name)}", "unknown key", hint)
