"""Pages of the keys of profiles, sites and seeds, made of their JSON Schemas."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from builder.resolve.schemas import json_schemas

Schema = dict[str, Any]
_TITLES = {
    "profile": ("Keys of a profile", "`config/profiles/NAME.yaml`: what a node is", "../guide.md"),
    "site": ("Keys of a site", "`config/sites/NAME.yaml`: where a node is", "../guide.md"),
    "seed": (
        "Keys of a seed",
        "`user-data`: who a node is; what says nothing is cloud-init's",
        "../node.md",
    ),
}
_PLAIN = {"string": "text", "integer": "number", "number": "number", "boolean": "true or false"}
_LONG = 8  # values that are listed at most


def pages() -> dict[str, str]:
    """Return each page by its file's name."""
    schemas = json_schemas()
    return {f"{name}-keys.md": _page(schemas[name], *_TITLES[name]) for name in _TITLES}


def _page(schema: Schema, title: str, where: str, more: str) -> str:
    rows = [
        f"| `{at}` | {kind} | {default} | {about} |" for at, kind, default, about in keys(schema)
    ]
    head = (
        f"# {title}\n\nMade by `make golden` from what checks the file. {where}\n"
        f"([more]({more})). `[]` stands for each entry of a list, `NAME` for a name of your own.\n"
    )
    return "\n".join(
        [head, "| key | kind | default | what |", "| --- | --- | --- | --- |", *rows, ""]
    )


def keys(schema: Schema) -> Iterator[tuple[str, str, str, str]]:
    """Yield place, kind, default and description of every key."""
    yield from _below(schema, schema, "")


def _below(whole: Schema, part: Schema, prefix: str) -> Iterator[tuple[str, str, str, str]]:
    for name, raw in part.get("properties", {}).items():
        found, at = _resolved(whole, raw), f"{prefix}{name}"
        nested = list(_inside(whole, found, at))
        about = raw.get("description") or ("" if nested else found.get("description", ""))
        needed = name in part.get("required", ())
        yield at, _kind(whole, found), _default(raw, needed=needed), _cell(about)
        yield from nested


def _inside(whole: Schema, found: Schema, at: str) -> Iterator[tuple[str, str, str, str]]:
    """Yield the keys of what a key holds: a map, entries of a list, values under own names."""
    yield from _below(whole, found, f"{at}.")
    if isinstance(entry := found.get("items"), dict):
        yield from _below(whole, _resolved(whole, entry), f"{at}[].")
    if isinstance(value := found.get("additionalProperties"), dict):
        yield from _below(whole, _resolved(whole, value), f"{at}.NAME.")


def _resolved(whole: Schema, part: Schema) -> Schema:
    """Follow a reference, and take the one of two forms that is not null."""
    if "$ref" in part:
        named: Schema = whole["$defs"][part["$ref"].rpartition("/")[2]]
        return named
    forms = [one for one in part.get("anyOf", ()) if one.get("type") != "null"]
    return _resolved(whole, forms[0]) if len(forms) == 1 else part


def _kind(whole: Schema, found: Schema) -> str:
    if "anyOf" in found:
        kinds = [_kind(whole, _resolved(whole, one)) for one in found["anyOf"]]
        return " or ".join(dict.fromkeys(kinds))
    if "const" in found:
        return f"`{found['const']}`"
    if "enum" in found:
        shown = [f"`{value}`" for value in found["enum"] if value is not None]
        return ", ".join(shown[:_LONG]) + (", …" if len(shown) > _LONG else "")
    kinds = found.get("type", "any")
    names = [one for one in ([kinds] if isinstance(kinds, str) else kinds) if one != "null"]
    return " or ".join(dict.fromkeys(_named(whole, found, name) for name in names))


def _named(whole: Schema, found: Schema, kind: str) -> str:
    if kind == "array":
        entry = found.get("items")
        of = _kind(whole, _resolved(whole, entry)) if isinstance(entry, dict) else ""
        return f"list of {of}" if of and of != "map" else "list"
    if kind in ("integer", "number"):
        low, high = found.get("minimum"), found.get("maximum")
        if low is not None and high is not None:
            return f"number, {low} to {high}"
    return _PLAIN.get(kind, "map" if kind == "object" else "any")


def _default(raw: Schema, *, needed: bool) -> str:
    if needed:
        return "required"
    value = raw.get("default")
    if value is None or value in ({}, []) or isinstance(value, dict):
        return ""
    return f"`{value if isinstance(value, str) else json.dumps(value)}`"


def _cell(text: str) -> str:
    """Return text that does not end its cell of a table."""
    return " ".join(text.split()).replace("|", "\\|")
