"""What a value may be: one small rule for each kind, which also writes its JSON Schema."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import isnan
from typing import Any, Protocol

from imgnode.problems import Problem, key_name, shown, unknown_key

_REFERENCE = r"[a-z0-9][a-z0-9._-]{0,62}"
_NAME = re.compile(_REFERENCE)
_REFERENCE_HINT = "write {secret: NAME}; a value itself never stands in a seed"


class Rule(Protocol):
    """Judges one value."""

    def problems(self, path: str, value: object) -> list[Problem]:
        """Return everything that is wrong with the value at `path`."""

    def schema(self) -> dict[str, Any]:
        """Return the JSON Schema of values that pass."""


@dataclass(frozen=True)
class Text:
    """A text that a pattern matches as a whole; `looks` says in words how it looks."""

    pattern: str
    looks: str

    def problems(self, path: str, value: object) -> list[Problem]:
        """Refuse other types, and text that does not match."""
        if not isinstance(value, str):
            return [Problem(path, f"{shown(value)} must be text", "put it in quotes")]
        if not re.fullmatch(self.pattern, value):
            return [Problem(path, f"{shown(value)} does not fit", self.looks)]
        return []

    def schema(self) -> dict[str, Any]:
        """Return a string with a pattern."""
        return {"type": "string", "pattern": f"^(?:{self.pattern})$"}


@dataclass(frozen=True)
class Range:
    """A number between two bounds, both allowed; whole unless `fraction`."""

    least: float
    most: float
    fraction: bool = False

    def problems(self, path: str, value: object) -> list[Problem]:
        """Refuse other types (truth values too), and what is out of bounds or no number."""
        hint = f"between {self.least:g} and {self.most:.15g}"
        if not isinstance(value, int | float) or not self._is_one(value):
            wanted = "a number" if self.fraction else "a whole number"
            return [Problem(path, f"{shown(value)} must be {wanted}", hint)]
        if isnan(value):
            return [Problem(path, "NaN is no number", hint)]
        if value < self.least:
            return [Problem(path, f"{shown(value)} is less than {self.least:g}", hint)]
        if value > self.most:
            return [Problem(path, f"{shown(value)} is more than {self.most:.15g}", hint)]
        return []

    def _is_one(self, value: float) -> bool:
        return not isinstance(value, bool) and (self.fraction or isinstance(value, int))

    def schema(self) -> dict[str, Any]:
        """Return a number with bounds."""
        kind = "number" if self.fraction else "integer"
        return {"type": kind, "minimum": self.least, "maximum": self.most}


@dataclass(frozen=True)
class Choice:
    """One of a few words."""

    words: tuple[str, ...]

    def problems(self, path: str, value: object) -> list[Problem]:
        """Refuse everything but the words."""
        if isinstance(value, str) and value in self.words:
            return []
        return [Problem(path, f"{shown(value)} is not one of them", ", ".join(self.words))]

    def schema(self) -> dict[str, Any]:
        """Return an enumeration."""
        return {"enum": list(self.words)}


@dataclass(frozen=True)
class Truth:
    """True or false."""

    def problems(self, path: str, value: object) -> list[Problem]:
        """Refuse everything else."""
        if isinstance(value, bool):
            return []
        return [Problem(path, f"{shown(value)} must be true or false")]

    def schema(self) -> dict[str, Any]:
        """Return a truth value."""
        return {"type": "boolean"}


@dataclass(frozen=True)
class Secret:
    """A reference to a secret by name. Messages never show the value: it may be one."""

    def problems(self, path: str, value: object) -> list[Problem]:
        """Refuse everything but `{secret: NAME}`."""
        if not isinstance(value, Mapping) or set(value) != {"secret"}:
            return [Problem(path, "must be a reference to a secret", _REFERENCE_HINT)]
        name = value["secret"]
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            hint = "small letters, digits, dots, hyphens and underscores, up to 63"
            return [Problem(f"{path}.secret", "this cannot be the name of a secret", hint)]
        return []

    def schema(self) -> dict[str, Any]:
        """Return a closed object with the name."""
        name = {"type": "string", "pattern": f"^{_REFERENCE}$"}
        return {
            "type": "object",
            "properties": {"secret": name},
            "required": ["secret"],
            "additionalProperties": False,
        }


@dataclass(frozen=True)
class Table:
    """A map with known keys, each with its rule; `refused` gives reasons for others."""

    keys: Mapping[str, Rule]
    refused: Mapping[str, str] = field(default_factory=dict)

    def problems(self, path: str, value: object) -> list[Problem]:
        """Refuse other types and unknown keys, and judge the values of the known ones."""
        if not isinstance(value, Mapping):
            return [Problem(path, f"{shown(value)} must be a map", "write `key: value` lines")]
        found: list[Problem] = []
        for key, item in value.items():
            if key in self.keys:
                found += self.keys[key].problems(f"{path}.{key}", item)
            elif key in self.refused:
                found.append(Problem(f"{path}.{key}", "is not allowed", self.refused[key]))
            else:
                found.append(unknown_key(f"{path}.", str(key), self.keys))
        return found

    def schema(self) -> dict[str, Any]:
        """Return a closed object."""
        properties = {key: rule.schema() for key, rule in self.keys.items()}
        return {"type": "object", "properties": properties, "additionalProperties": False}


@dataclass(frozen=True)
class Environment:
    """Variables for the server: names by pattern, values text or references to secrets.

    A name that `secret` matches takes references only, and no message shows a value.
    """

    names: str
    secret: str
    looks: str
    refused: Mapping[str, str] = field(default_factory=dict)

    def problems(self, path: str, value: object) -> list[Problem]:
        """Refuse names that are not allowed, and literal values where a secret belongs."""
        if not isinstance(value, Mapping):
            return [Problem(path, "must be a map", "write `NAME: value` lines")]
        found: list[Problem] = []
        for key, item in value.items():
            where = f"{path}.{key_name(str(key))}"
            if key in self.refused:
                found.append(Problem(where, "is not allowed", self.refused[key]))
            elif not isinstance(key, str) or not re.fullmatch(self.names, key):
                found.append(Problem(where, "this variable is not allowed", self.looks))
            elif isinstance(item, Mapping) or re.fullmatch(self.secret, key):
                found += Secret().problems(where, item)
            elif not isinstance(item, str) or not item.isprintable():
                found.append(Problem(where, "must be one line of text", "put it in quotes"))
        return found

    def schema(self) -> dict[str, Any]:
        """Return a closed object whose keys match the pattern."""
        value = {"anyOf": [{"type": "string"}, Secret().schema()]}
        names = {f"^(?:{self.names})$": value}
        return {"type": "object", "patternProperties": names, "additionalProperties": False}
