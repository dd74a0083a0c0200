"""How a problem in a configuration file is written: `file: path: fact (hint: …)`."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from builder.core.paths import Project

Loc = tuple[str | int, ...]


def problem(file: str, path: str, fact: str, hint: str | None = None) -> str:
    """Return one line: `file: path: fact (hint: …)`; an empty `path` is left out."""
    line = ": ".join(part for part in (file, path, fact) if part)
    return f"{line} (hint: {hint})" if hint else line


def dotted(loc: Iterable[str | int]) -> str:
    """Return a place inside a file as people write it: `archives[0].uri`."""
    text = ""
    for part in loc:
        text += f"[{part}]" if isinstance(part, int) else f".{part}"
    return text.removeprefix(".")


def shown(project: Project, path: Path) -> str:
    """Return a path as it is named in messages: relative to the project where possible."""
    try:
        return path.relative_to(project.root).as_posix()
    except ValueError:
        return str(path)


def did_you_mean(name: str, known: Sequence[str], what: str) -> str:
    """Return a hint for an unknown `name`: the nearest of `known`, and all there are.

    `what` says what the known ones are, such as "profiles".
    """
    everything = f"{what}: {', '.join(known)}" if known else f"there are no {what}"
    near = difflib.get_close_matches(name, known, n=1)
    return f"did you mean '{near[0]}'? {everything}" if near else everything


def unique(problems: Iterable[str]) -> list[str]:
    """Return the problems in their order, each once."""
    return list(dict.fromkeys(problems))
