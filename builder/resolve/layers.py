"""Lays configuration files over one another and remembers which file set what."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from builder.resolve.problems import Loc

DEFAULT = "default"


@dataclass
class Layers:
    """Values merged from several files; `origins` names the file of each leaf."""

    values: dict[str, object] = field(default_factory=dict)
    origins: dict[Loc, str] = field(default_factory=dict)

    def add(self, values: Mapping[str, object], file: str) -> None:
        """Lay `values`, set by `file`, over what is there: maps merge, the rest replaces."""
        self.values = self._merged(self.values, values, (), file)

    def origin(self, loc: Loc, otherwise: str) -> str:
        """Return the file that set the value at `loc`, or `otherwise` when none did.

        Inside a list it is the list's file; for a map, the file that last set a part.
        """
        for length in range(len(loc), 0, -1):
            if loc[:length] in self.origins:
                return self.origins[loc[:length]]
        below = [file for at, file in self.origins.items() if at[: len(loc)] == loc]
        return below[-1] if loc and below else otherwise

    def at(self, *loc: str) -> object:
        """Return the value at `loc`, or None."""
        value: object = self.values
        for key in loc:
            value = value.get(key) if isinstance(value, dict) else None
        return value

    def _merged(
        self, base: Mapping[str, object], over: Mapping[str, object], loc: Loc, file: str
    ) -> dict[str, object]:
        result = dict(base)
        for key, value in over.items():
            here, below = (*loc, key), result.get(key)
            if isinstance(value, dict) and isinstance(below, dict):
                self.origins.pop(here, None)
                result[key] = self._merged(below, value, here, file)
            elif isinstance(value, dict):
                self._forget(here)
                result[key] = self._merged({}, value, here, file)
            else:
                self._forget(here)
                self.origins[here] = file
                result[key] = value
            if value == {} and result[key] == {}:
                self.origins[here] = file
        return result

    def _forget(self, loc: Loc) -> None:
        for at in [at for at in self.origins if at[: len(loc)] == loc]:
            del self.origins[at]
