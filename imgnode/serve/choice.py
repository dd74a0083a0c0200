"""Which config is served: the wanted one, or the proven one when the wanted does not come up.

State on /var/lib/imgnode/model: `proven.json` (the config that last made a token) and
`attempts.json` (how often each config was begun since, and what came of it). A start is
counted when it begins, so a config that takes the whole node down is counted, too.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from imgnode.fault import OF_THE_MOMENT
from imgnode.files import write_atomic
from imgnode.serve import names
from imgnode.serve.facts import read_json

Settings = Mapping[str, Any]
STATE = Path("var/lib/imgnode/model")
TRIES = names.TRIES
_PROVEN, _ATTEMPTS = STATE / "proven.json", STATE / "attempts.json"
_BOOT = Path("proc/sys/kernel/random/boot_id")
_KEPT = 20  # configs whose attempts are remembered
_CUT_OFF = "the node or the service went down while it was starting"


@dataclass(frozen=True)
class Attempt:
    """How often a config was begun without coming up, its last fault, and the boot's id."""

    count: int = 0
    kind: str | None = None
    error: str | None = None
    boot: str = ""


@dataclass(frozen=True)
class Choice:
    """`in_force` is what is served; it differs from `wanted` only while the node falls back."""

    wanted: Settings
    in_force: Settings
    attempt: Attempt = Attempt()

    @property
    def fallback(self) -> bool:
        """Whether the proven config is served in place of the wanted one."""
        return digest(self.wanted) != digest(self.in_force)


def digest(settings: Settings) -> str:
    """Return the name of a config: the same settings have the same."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()


def choose(wanted: Settings, proven: Settings | None, attempt: Attempt) -> Choice:
    """Return what to serve; `attempt` tells of the wanted config."""
    if proven and attempt.count >= TRIES:
        return Choice(wanted, proven, attempt)
    return Choice(wanted, wanted, attempt)


def load_proven(root: Path = Path("/")) -> dict[str, Any] | None:
    """Return the config that last made a token."""
    kept = read_json(root / _PROVEN) or {}
    settings = kept.get("settings")
    return settings if isinstance(settings, dict) and settings.get("model") else None


def proven_by(settings: Settings, root: Path = Path("/")) -> str | None:
    """Return the stem of the version that made a token with exactly these settings last.

    None when no version is known to have.
    """
    proven = load_proven(root)
    if proven is None or digest(proven) != digest(settings):
        return None
    return str((read_json(root / _PROVEN) or {}).get("version", ""))


def save_proven(settings: Settings, when: float, version: str, root: Path = Path("/")) -> None:
    """Keep a config that made a token at `when` (seconds since 1970) under a version (its stem).

    Raises OSError.
    """
    text = json.dumps({"settings": settings, "when": int(when), "version": version}, indent=1)
    write_atomic(root / _PROVEN, text + "\n")


def load_attempt(settings: Settings, root: Path = Path("/")) -> Attempt:
    """Return what is known of earlier starts; what may have passed with a reboot is forgotten."""
    try:
        attempt = Attempt(**(read_json(root / _ATTEMPTS) or {}).get(digest(settings), {}))
    except TypeError:
        return Attempt()
    passed = attempt.kind in OF_THE_MOMENT and attempt.boot != _boot(root)
    return Attempt() if passed else attempt


def begin(settings: Settings, root: Path = Path("/")) -> None:
    """Count a start that now begins. Raises OSError."""
    attempt = load_attempt(settings, root)
    _save(settings, Attempt(attempt.count + 1, None, _CUT_OFF, _boot(root)), root)


def failed(settings: Settings, kind: str, error: str, root: Path = Path("/")) -> None:
    """Note what came of the start that was counted. Raises OSError."""
    attempt = load_attempt(settings, root)
    _save(settings, Attempt(attempt.count, kind, error, _boot(root)), root)


def give_up(settings: Settings, error: str, root: Path = Path("/")) -> None:
    """Let the proven config have its turn in a config's place. Raises OSError."""
    _save(settings, Attempt(TRIES, None, error, _boot(root)), root)


def uncount(settings: Settings, before: Attempt, root: Path = Path("/")) -> None:
    """Take a start back that says nothing about the config. Raises OSError."""
    _save(settings, before, root)


def forget(settings: Settings, root: Path = Path("/")) -> None:
    """Forget every start of a config: it came up, or is to be tried anew. Raises OSError."""
    _save(settings, Attempt(), root)


def _save(settings: Settings, attempt: Attempt, root: Path) -> None:
    known = read_json(root / _ATTEMPTS) or {}
    name = digest(settings)
    rest = {key: one for key, one in known.items() if key != name}
    mine = {name: asdict(attempt)} if attempt.count else {}
    newest = dict([*rest.items(), *mine.items()][-_KEPT:])
    write_atomic(root / _ATTEMPTS, json.dumps(newest, indent=1) + "\n")


def _boot(root: Path) -> str:
    try:
        return (root / _BOOT).read_text().strip()
    except OSError:
        return ""
