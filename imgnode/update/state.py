"""What this node remembers of updates: `/var/lib/imgnode/update/state.json`.

Readable by older versions: unknown keys are kept, damaged files start anew.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from imgnode.files import write_atomic

FOLDER = Path("var/lib/imgnode/update")
_STATE = FOLDER / "state.json"
_KEPT = 20


@dataclass(frozen=True)
class Applied:
    """A version that was written into the other slot, and which one ran then."""

    version: str
    before: str
    when: int


@dataclass(frozen=True)
class State:
    """`serials`: newest by channel. `failed`: reason by version. `applied`: not yet settled.

    `updated` is when a version last came up good after an update, in seconds since 1970.
    """

    serials: Mapping[str, int] = field(default_factory=dict)
    failed: Mapping[str, str] = field(default_factory=dict)
    applied: Applied | None = None
    updated: int | None = None

    def seen(self, channel: str, serial: int) -> State:
        """Return the state after a channel file was believed."""
        newest = max(serial, self.serials.get(channel, 0))
        return replace(self, serials={**self.serials, channel: newest})

    def with_failed(self, version: str, reason: str) -> State:
        """Return the state after a version did not come up."""
        rest = {name: why for name, why in self.failed.items() if name != version}
        kept = dict([*rest.items(), (version, reason)][-_KEPT:])
        return replace(self, failed=kept, applied=None)

    def without_failed(self, version: str) -> State:
        """Return the state after a version is to be tried again, or came up."""
        return replace(self, failed={k: v for k, v in self.failed.items() if k != version})


def load(root: Path = Path("/")) -> State:
    """Return what is remembered; nothing where there is nothing, or it is damaged."""
    try:
        values: dict[str, Any] = json.loads((root / _STATE).read_text())
        applied = values.get("applied")
        return State(
            serials={str(k): int(v) for k, v in values.get("serials", {}).items()},
            failed={str(k): str(v) for k, v in values.get("failed", {}).items()},
            applied=Applied(**applied) if applied else None,
            updated=values.get("updated"),
        )
    except (OSError, ValueError, TypeError, AttributeError):
        return State()


def save(state: State, root: Path = Path("/")) -> None:
    """Write it, in one step. Raises OSError."""
    write_atomic(root / _STATE, json.dumps(asdict(state), indent=1) + "\n", 0o600)
