"""Turns merged values into a model, or every mistake in them into one line each."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

from pydantic import BaseModel, TypeAdapter, ValidationError

from builder.model.base import PackageName
from builder.resolve.fields import field_at, keys_beside, leaves
from builder.resolve.layers import DEFAULT, Layers
from builder.resolve.problems import Loc, did_you_mean, dotted, problem

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pydantic_core import ErrorDetails

Model = TypeVar("Model", bound=BaseModel)

_SHOWN = 60
_SHOULD = re.compile(r"^\w+ should ")
_FACTS = {
    "model_type": "must be a map",
    "tuple_type": "must be a list",
    "string_type": "must be text",
    "string_unicode": "must be text without broken characters",
    "int_type": "must be a whole number",
    "bool_type": "must be true or false",
    "too_short": "has too few entries",
    "byte_size": "must be a number with a unit, such as 512MiB",
}


@dataclass(frozen=True)
class Rules(Generic[Model]):
    """What a kind of file must look like: its model, and keys it knows besides."""

    model: type[Model]
    extra_keys: tuple[str, ...] = ()


def validate(
    rules: Rules[Model], layers: Layers, leaf: str, *, partial: bool = False
) -> tuple[Model | None, list[str]]:
    """Return the model that the merged values make, and all problems as lines.

    `leaf` is the file to which what is missing must be added; with `partial` nothing
    has to be there. The model is None when there are problems (or parts missing).
    """
    try:
        return rules.model.model_validate(_tuples(layers.values), strict=True), []
    except ValidationError as error:
        found = error.errors(include_url=False)
    wanted = [one for one in found if not (partial and _may_wait(one)) and not _follows(one, found)]
    return None, [_line(rules, layers, leaf, one) for one in wanted]


def _may_wait(error: ErrorDetails) -> bool:
    """Tell whether another file may still set what is missing; lists never merge."""
    return error["type"] == "missing" and not _in_list(error["loc"])


def _follows(error: ErrorDetails, others: Sequence[ErrorDetails]) -> bool:
    """Tell whether a list is only called too short because entries of it are wrong."""
    loc = error["loc"]
    return error["type"] == "too_short" and any(
        len(other["loc"]) > len(loc) and other["loc"][: len(loc)] == loc for other in others
    )


def _in_list(loc: Loc) -> bool:
    return any(isinstance(part, int) for part in loc)


def origins(value: BaseModel, layers: Layers, prefix: str) -> dict[str, str]:
    """Return for each leaf of `value`, as `prefix.path`, its file or 'default'."""
    return {dotted((prefix, *at)): layers.origin(at, DEFAULT) for at in leaves(value)}


def package_names(file: str, entries: Sequence[object]) -> tuple[list[str], list[str]]:
    """Return a list file's package names, and a problem line for each entry that is none."""
    try:
        return TypeAdapter(list[PackageName]).validate_python(entries, strict=True), []
    except ValidationError as error:
        hint = "one Debian package name per entry, no version and no architecture"
        found = error.errors(include_url=False)
        return [], [problem(file, dotted(one["loc"]), _fact(one), hint) for one in found]


def _tuples(value: object) -> object:
    """Return the value with tuples for lists, as strict validation wants them."""
    if isinstance(value, dict):
        return {key: _tuples(item) for key, item in value.items()}
    return tuple(_tuples(item) for item in value) if isinstance(value, list) else value


def _line(rules: Rules[Model], layers: Layers, leaf: str, error: ErrorDetails) -> str:
    loc = error["loc"]
    field = field_at(rules.model, loc)
    about = field.description if field else None
    if error["type"] == "missing":
        file = layers.origin(loc[:-1], leaf) if _in_list(loc) else leaf
        return problem(file, dotted(loc), "is required but not set", about or "add it")
    file = layers.origin(loc, leaf)
    if error["type"] == "extra_forbidden":
        known = keys_beside(rules.model, loc)
        known += rules.extra_keys if len(loc) == 1 else ()
        hint = did_you_mean(str(loc[-1]), known, "known keys")
        return problem(file, dotted(loc), "unknown key", hint)
    if error["type"] == "string_type" and not isinstance(error["input"], (tuple, dict)):
        about = "put it in quotes"
    return problem(file, dotted(loc), _fact(error), about)


def _fact(error: ErrorDetails) -> str:
    """Return what is wrong with a value, the value first."""
    message = _SHOULD.sub("must ", error["msg"].removeprefix("Value error, "))
    message = _FACTS.get(error["type"], message)
    text = json.dumps(error["input"], default=str)
    text = text if len(text) <= _SHOWN else text[:_SHOWN] + "…"
    return f"{text} {message}"
