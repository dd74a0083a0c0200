"""What the server remembers of each machine: one plain JSON file for each.

STATE/nodes/NAME.json      a node of the inventory
STATE/waiting/KEY.json     a machine that is none
STATE/tokens/NAME.json     a node's one-time token (tokens.py)
STATE/admin-token          what changes are asked for with
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, ValidationError

from builder.core.errors import UserError
from builder.core.files import write_atomic
from builder.model.base import Closed
from builder.serve.identity import Identity

State = Literal["expected", "waiting", "held", "ordered", "installing", "failed", "done"]
_MOST_WAITING = 500
_TEXT = 500
Text = Annotated[str, Field(max_length=_TEXT)]


class Fault(Closed):
    """Why an installation failed, as the installer says it."""

    kind: Annotated[str, Field(max_length=40)]
    text: Annotated[str, Field(max_length=4 * _TEXT)]


class Record(Closed):
    """One machine. Times are seconds since 1970, 0 for never; `key` is its reports' address."""

    schema_version: Literal[1] = 1
    name: str
    state: State = "expected"
    why: Text = ""
    who: Identity = Identity()
    address: Annotated[str, Field(max_length=64)] = ""
    phase: Annotated[str, Field(max_length=40)] = ""
    done: int = Field(0, ge=0)
    total: int = Field(0, ge=0)
    version: Annotated[str, Field(max_length=64)] | None = None
    disk: Annotated[str, Field(max_length=200)] | None = None
    error: Fault | None = None
    started: float = 0.0
    seen: float = 0.0
    ended: float = 0.0
    rate: float = Field(0.0, description="bytes a second within this phase")
    key: str = ""


@dataclass
class Store:
    """The files below one folder, and what they say; other programs may change them."""

    folder: Path
    _known: dict[Path, tuple[int, Record]] = field(default_factory=dict)

    def prepare(self) -> None:
        """Make the folders. Only `run` can be reached by others: nginx works as another user."""
        for name, mode in (("", 0o711), ("run", 0o711), ("tftp", 0o755)):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
            (self.folder / name).chmod(mode)
        for name in ("nodes", "waiting", "tokens"):
            (self.folder / name).mkdir(exist_ok=True)
            (self.folder / name).chmod(0o700)

    def admin_token(self) -> str:
        """Return what changes are asked for with; made the first time."""
        path = self.folder / "admin-token"
        if not path.exists():
            write_atomic(path, f"{secrets.token_urlsafe(24)}\n", 0o600)
        return path.read_text().strip()

    def node(self, name: str) -> Record:
        """Return what is known of a node. Raises UserError for a file that is damaged."""
        return self._read(self.folder / "nodes" / f"{name}.json") or Record(name=name)

    def waiting(self) -> list[Record]:
        """Return the machines that are no nodes, the last seen first."""
        found = [one for path in self._files("waiting") if (one := self._read(path))]
        return sorted(found, key=lambda one: -one.seen)

    def put(self, record: Record, *, lasting: bool = True) -> None:
        """Remember a node; what is not `lasting` may be forgotten when the server is killed."""
        path = self.folder / "nodes" / f"{record.name}.json"
        before = self._known.get(path)
        if lasting or before is None:
            self._write(path, record)
        else:
            self._known[path] = (before[0], record)

    def wait(self, record: Record) -> None:
        """Remember a machine that is no node; the one not seen for longest goes when it is full."""
        paths = list(self._files("waiting"))
        path = self.folder / "waiting" / f"{record.name}.json"
        if path not in paths and len(paths) >= _MOST_WAITING:
            oldest = min(self.waiting(), key=lambda one: one.seen)
            self.forget(oldest.name)
        self._write(path, record)

    def forget(self, key: str) -> None:
        """Forget a machine that waited; one that did not is fine."""
        path = self.folder / "waiting" / f"{key}.json"
        path.unlink(missing_ok=True)
        self._known.pop(path, None)

    def _files(self, room: str) -> Iterator[Path]:
        for path in (self.folder / room).iterdir():
            if path.suffix == ".json" and not path.name.startswith("."):
                yield path

    def _write(self, path: Path, record: Record) -> None:
        write_atomic(path, f"{record.model_dump_json(indent=1)}\n", 0o600)
        self._known[path] = (path.stat().st_mtime_ns, record)

    def _read(self, path: Path) -> Record | None:
        """Return what a file says, from memory where it has not changed."""
        try:
            changed = path.stat().st_mtime_ns
        except FileNotFoundError:
            self._known.pop(path, None)
            return None
        known = self._known.get(path)
        if known is None or known[0] != changed:
            known = (changed, _parse(path))
            self._known[path] = known
        return known[1]


def _parse(path: Path) -> Record:
    try:
        return Record.model_validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        fact = f"{path}: cannot be understood: {str(error).splitlines()[0]}"
        raise UserError(fact, hint="move it away: its machine is then one never seen") from None
