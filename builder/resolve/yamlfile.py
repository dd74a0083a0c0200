"""Reads one YAML file of the project, or says what is wrong with it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import yaml

from builder.core.errors import ConfigError
from builder.resolve.names import names_in
from builder.resolve.problems import did_you_mean, problem, shown, unique
from imgnode import strictyaml

if TYPE_CHECKING:
    from pathlib import Path

    from builder.core.paths import Project

MAX_BYTES = 1 << 20


def read_mapping(project: Project, path: Path) -> dict[str, object]:
    """Return the top-level map of the YAML file `path`.

    Raises ConfigError, with every problem found, when it is missing, too big, not UTF-8,
    not YAML, not a map, or has duplicate keys, anchors or tags.
    """
    value = _read(project, path)
    if isinstance(value, dict):
        return value
    hint = "write it as `key: value` lines"
    raise ConfigError([problem(shown(project, path), "", _must_be("a map", value), hint)])


def read_list(project: Project, path: Path) -> list[object]:
    """Return the top-level list of the YAML file `path`; raises as read_mapping does."""
    value = _read(project, path)
    if isinstance(value, list):
        return value
    hint = "write each entry on a line of its own, as `- name`"
    raise ConfigError([problem(shown(project, path), "", _must_be("a list", value), hint)])


def _must_be(wanted: str, value: object) -> str:
    kinds = {dict: "a map", list: "a list", type(None): "empty"}
    return f"is {kinds.get(type(value), 'a single value')}, must be {wanted}"


def _read(project: Project, path: Path) -> object:
    file = shown(project, path)
    text = _text(project, path)
    problems: list[str] = []

    def report(refused: strictyaml.Refused) -> None:
        problems.append(problem(file, f"line {refused.line}", refused.fact, refused.hint))

    try:
        value = strictyaml.parse(text, report)
    except yaml.YAMLError as error:
        problems.append(_syntax(file, text, error))
    if problems:
        raise ConfigError(unique(problems))
    return value


def _text(project: Project, path: Path) -> str:
    """Return the text of the file; raises ConfigError when it has none to give."""
    file = shown(project, path)
    if not path.exists():
        files = f"files in {shown(project, path.parent)}"
        hint = did_you_mean(path.stem, names_in(path.parent), files)
        raise ConfigError([problem(file, "", "not found", hint)])
    if not path.is_file():
        raise ConfigError([problem(file, "", "is not a file")])
    try:
        with path.open("rb") as stream:
            data = stream.read(MAX_BYTES + 1)
        if len(data) > MAX_BYTES:
            raise ConfigError([problem(file, "", "is larger than 1 MiB", "is it the right file?")])
        return data.decode("utf-8")
    except OSError as error:
        fact = f"cannot be read: {error.strerror}"
        raise ConfigError([problem(file, "", fact, "check its permissions")]) from None
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        fact = f"byte {data[error.start]:#04x} is not UTF-8"
        raise ConfigError([problem(file, f"line {line}", fact, "save the file as UTF-8")]) from None


def _syntax(file: str, text: str, error: yaml.YAMLError) -> str:
    """Return the problem line for text that is not YAML."""
    line, fact, hint = strictyaml.explain(text, error)
    return problem(file, f"line {line}" if line else "", fact, hint)
