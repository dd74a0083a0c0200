"""Finds the fields of a model by their place in a file, for hints and origins."""

from __future__ import annotations

from typing import TYPE_CHECKING, get_args

from pydantic import BaseModel

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pydantic.fields import FieldInfo

    from builder.resolve.problems import Loc


def field_at(model: type[BaseModel], loc: Loc) -> FieldInfo | None:
    """Return the field of `model` at `loc` (for a list entry, the list's), if there is one."""
    names = [part for part in loc if isinstance(part, str)]
    for name in names[:-1]:
        inner = _inner(model.model_fields.get(name))
        if inner is None:
            return None
        model = inner
    return model.model_fields.get(names[-1]) if names else None


def keys_beside(model: type[BaseModel], loc: Loc) -> list[str]:
    """Return the keys that are known in the map which holds the key at `loc`."""
    above = tuple(part for part in loc if isinstance(part, str))[:-1]
    holder = _inner(field_at(model, above)) if above else model
    return list(holder.model_fields) if holder else []


def leaves(value: BaseModel, loc: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Yield the place of every value in a model that is not a model itself."""
    for name in type(value).model_fields:
        inner = getattr(value, name)
        if isinstance(inner, BaseModel):
            yield from leaves(inner, (*loc, name))
        else:
            yield (*loc, name)


def _inner(field: FieldInfo | None) -> type[BaseModel] | None:
    """Return the model that a field holds, directly, optionally or in a list."""
    waiting: list[object] = [field.annotation] if field else []
    while waiting:
        kind = waiting.pop()
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            return kind
        waiting += get_args(kind)
    return None
