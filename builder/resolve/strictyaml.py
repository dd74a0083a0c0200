"""A YAML reader that takes only what a configuration file needs.

Maps with text keys, lists and plain scalars; no anchors, aliases, merges or tags, so a
small file cannot grow when it is read, and no key can hide another.
"""

from __future__ import annotations

from collections.abc import Callable

import yaml

_MAX_DEPTH = 20
_TAG = "tag:yaml.org,2002:"

Report = Callable[[int, str, str | None], None]


class Refusal(yaml.MarkedYAMLError):
    """Valid YAML that a configuration file may not use; `note` is a hint."""


class _Loader(yaml.SafeLoader):
    """Composes nodes, refusing anchors and deep nesting while it reads."""

    depth = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        event = self.peek_event()  # type: ignore[no-untyped-call]  # not in the stubs
        if event.anchor is not None:
            raise Refusal(
                problem=f"anchors and aliases (*{event.anchor}) are not allowed",
                problem_mark=event.start_mark,
                note="write the value out; profiles share values with `extends`",
            )
        if self.depth == _MAX_DEPTH:
            raise Refusal(
                problem=f"nested more than {_MAX_DEPTH} deep", problem_mark=event.start_mark
            )
        self.depth += 1
        try:
            return super().compose_node(parent, index)
        finally:
            self.depth -= 1


def parse(text: str, report: Report) -> object:
    """Return the one document in `text` as maps, lists and scalars (None when empty).

    Each thing refused in a well-formed document goes to `report` as line number
    (from 1), fact and hint, and is left out of the result. Raises yaml.YAMLError when
    the text is not YAML, or is nested too deep, or has anchors.
    """
    loader = _Loader(text)
    node = loader.get_single_node()
    return None if node is None else _value(loader, node, report)


def _value(loader: _Loader, node: yaml.Node, report: Report) -> object:
    line = node.start_mark.line + 1
    if isinstance(node, yaml.MappingNode) and node.tag == _TAG + "map":
        return _mapping(loader, node, report)
    if isinstance(node, yaml.SequenceNode) and node.tag == _TAG + "seq":
        return [_value(loader, item, report) for item in node.value]
    if not isinstance(node, yaml.ScalarNode):
        report(line, f"the tag {node.tag} is not allowed", "remove it")
        return None
    try:
        value: object = loader.construct_object(node)  # type: ignore[no-untyped-call]
    except yaml.YAMLError:
        report(line, f"the tag {node.tag} is not allowed", "remove it, or quote the value")
    except ValueError as error:
        report(line, f"cannot read the value {node.value[:60]!r}: {error}", "quote it")
    else:
        return value
    return None


def _mapping(loader: _Loader, node: yaml.MappingNode, report: Report) -> dict[str, object]:
    found: dict[str, object] = {}
    first: dict[str, int] = {}
    for key, item in node.value:
        line = key.start_mark.line + 1
        if not isinstance(key, yaml.ScalarNode):
            report(line, "a key must be text, not a map or list", None)
        elif key.tag != _TAG + "str":
            kind = key.tag.removeprefix(_TAG)
            report(line, f"the key {key.value!r} is read as {kind}, not as text", "quote it")
        elif key.value in first:
            fact = f"the key {key.value!r} is there twice, first in line {first[key.value]}"
            report(line, fact, "keep one of the two")
        else:
            first[key.value] = line
            found[key.value] = _value(loader, item, report)
    return found
