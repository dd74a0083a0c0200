"""A YAML reader that takes only what a configuration file needs.

Maps with text keys, lists and plain scalars; no anchors, aliases, merges or tags, so a
small file cannot grow when it is read, and no key can hide another. The builder reads its
own files with it too. The one module of the node that needs more than the standard
library: PyYAML is on every node, because cloud-init needs it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import yaml

_MAX_DEPTH = 20
_MAX_VALUES = 20_000
_MAX_DIGITS = 40
_TAG = "tag:yaml.org,2002:"

# What PyYAML lets out for a value that its tag does not fit: `!!bool x`, `!!int ""`.
_UNREADABLE = (ValueError, ArithmeticError, LookupError, AttributeError, TypeError)

NotYaml = yaml.YAMLError
Place = tuple[str | int, ...]


@dataclass(frozen=True)
class Refused:
    """One thing that a well-formed document may not have: its line (from 1) and its place."""

    line: int
    place: Place
    fact: str
    hint: str | None = None


Report = Callable[[Refused], None]


class Refusal(yaml.MarkedYAMLError):
    """Valid YAML that a configuration file may not use; `note` is a hint."""


class _Loader(yaml.SafeLoader):
    """Composes nodes, refusing anchors, deep nesting and endless lists while it reads."""

    depth = 0
    values = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        event = self.peek_event()  # type: ignore[no-untyped-call]  # not in the stubs
        self.values += 1
        if event.anchor is not None:
            raise Refusal(
                problem=f"anchors and aliases (*{event.anchor[:40]}) are not allowed",
                problem_mark=event.start_mark,
                note="write the value out",
            )
        if self.depth == _MAX_DEPTH:
            raise Refusal(
                problem=f"nested more than {_MAX_DEPTH} deep", problem_mark=event.start_mark
            )
        if self.values > _MAX_VALUES:
            raise Refusal(
                problem=f"more than {_MAX_VALUES} keys and values", problem_mark=event.start_mark
            )
        self.depth += 1
        try:
            return super().compose_node(parent, index)
        finally:
            self.depth -= 1


def parse(text: str, report: Report) -> object:
    """Return the one document in `text` as maps, lists and scalars (None when empty).

    Each thing refused in a well-formed document goes to `report` and is left out of the
    result. Raises NotYaml when the text is not YAML, or is nested too deep, has anchors,
    or too many values.
    """
    loader = _Loader(text)
    node = loader.get_single_node()
    return None if node is None else _value(loader, node, report, ())


def dump(value: object) -> str:
    """Return a value that parse() gave as YAML text, for those who read plain YAML."""
    return yaml.safe_dump(value, sort_keys=False, allow_unicode=True, width=4096)


def explain(text: str, error: yaml.YAMLError) -> tuple[int | None, str, str | None]:
    """Return the line (from 1), the fact and a hint for an error that parse() raised."""
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        line = error.problem_mark.line + 1
        fact = error.problem or "is not YAML"
        if isinstance(error, Refusal):
            return line, fact, error.note
        return line, f"is not YAML: {fact}", "check colons, quotes and indentation here and above"
    position = getattr(error, "position", None)
    if isinstance(position, int) and position < len(text):
        line = text.count("\n", 0, position) + 1
        return line, f"the character U+{ord(text[position]):04X} is not allowed", "remove it"
    return None, f"is not YAML: {error}", None


def _value(loader: _Loader, node: yaml.Node, report: Report, place: Place) -> object:
    line = node.start_mark.line + 1
    if isinstance(node, yaml.MappingNode) and node.tag == _TAG + "map":
        return _mapping(loader, node, report, place)
    if isinstance(node, yaml.SequenceNode) and node.tag == _TAG + "seq":
        return [
            _value(loader, item, report, (*place, number)) for number, item in enumerate(node.value)
        ]
    if not isinstance(node, yaml.ScalarNode):
        report(Refused(line, place, f"the tag {node.tag} is not allowed", "remove it"))
        return None
    refused = _endless(node)
    if not refused:
        try:
            value: object = loader.construct_object(node)  # type: ignore[no-untyped-call]
        except yaml.YAMLError:
            refused = f"the tag {node.tag} is not allowed", "remove it, or quote the value"
        except _UNREADABLE as error:
            refused = f"cannot read the value {node.value[:60]!r}: {error}", "quote it"
        else:
            return value
    report(Refused(line, place, *refused))
    return None


def _endless(node: yaml.ScalarNode) -> tuple[str, str] | None:
    """Refuse numbers that Python could read and then not write again."""
    if node.tag in (_TAG + "int", _TAG + "float") and len(node.value) > _MAX_DIGITS:
        text = node.value
        return f"cannot read the value {text[:60]!r}: it has {len(text)} digits", "quote it"
    return None


def _mapping(
    loader: _Loader, node: yaml.MappingNode, report: Report, place: Place
) -> dict[str, object]:
    found: dict[str, object] = {}
    first: dict[str, int] = {}
    for key, item in node.value:
        line = key.start_mark.line + 1
        if not isinstance(key, yaml.ScalarNode):
            report(Refused(line, place, "a key must be text, not a map or list"))
        elif key.tag != _TAG + "str":
            kind = key.tag.removeprefix(_TAG)
            fact = f"the key {key.value[:60]!r} is read as {kind}, not as text"
            report(Refused(line, place, fact, "quote it"))
        elif key.value in first:
            name = key.value[:60]
            fact = f"the key {name!r} is there twice, first in line {first[key.value]}"
            report(Refused(line, (*place, key.value), fact, "keep one of the two"))
        else:
            first[key.value] = line
            found[key.value] = _value(loader, item, report, (*place, key.value))
    return found
