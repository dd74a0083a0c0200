"""Whether this host has what the first image was built from; nothing is built otherwise."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from builder.core.errors import UserError
from builder.core.hashing import sha256_value
from builder.model.artifacts import PROVENANCE
from builder.model.lock import Lock

_LOCK = "lock"


def check_inputs(image: Path, lock: Lock, sources: Mapping[str, str]) -> None:
    """Compare lock and `sources` (the project's own rooms by name) with the image's provenance.

    Raises UserError when it says nothing of them, or something else.
    """
    path = image / PROVENANCE
    said = _own(path)
    here = {**sources, _LOCK: sha256_value(lock.model_dump(mode="json"))}
    other = sorted(name for name in said.keys() | here.keys() if said.get(name) != here.get(name))
    if _LOCK in other:
        raise UserError(
            f"{path}: the image was built from another lock",
            hint="name that one with --lock; nothing else can give the same bytes",
        )
    if other:
        raise UserError(
            f"{path}: the image was built from other sources than are here: {', '.join(other)}",
            hint="check out what the image was built from, with the same profile, site and keys",
        )


def _own(path: Path) -> dict[str, str]:
    """Return the digests of the project's own inputs that a provenance names."""
    try:
        definition = json.loads(path.read_bytes())["predicate"]["buildDefinition"]
        found = {
            one["name"]: one["digest"]["sha256"]
            for one in definition["resolvedDependencies"]
            if one.get("annotations", {}).get("kind") == "own"
        }
    except FileNotFoundError:
        hint = "only images with one can be built again: they say from what they were built"
        raise UserError(f"{path}: there is no provenance", hint=hint) from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{path}: is no provenance of an image: {error!r}") from None
    if not found:
        raise UserError(f"{path}: names no inputs", hint="it is damaged, or not imgbuild's")
    return found
