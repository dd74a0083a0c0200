"""Names of profiles, sites and roles, and the files behind them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import TypeAdapter, ValidationError

from builder.model.base import Name

if TYPE_CHECKING:
    from pathlib import Path

_NAME: TypeAdapter[str] = TypeAdapter(Name)


def is_name(text: object) -> bool:
    """Tell whether `text` may name a profile, a site or a role (and so is no path)."""
    try:
        _NAME.validate_python(text, strict=True)
    except ValidationError:
        return False
    return True


def wrong_name(kind: str, name: str, folder: Path) -> str | None:
    """Return the problem with a name that cannot be one; None when it can.

    `kind` says what it should name, `folder` holds those that there are.
    """
    if is_name(name):
        return None
    known = ", ".join(names_in(folder)) or "none yet"
    rule = "up to 24 small letters, digits and hyphens"
    return f"{name!r} cannot name a {kind} (hint: {rule}; there are: {known})"


def names_in(folder: Path) -> list[str]:
    """Return the names of the YAML files in `folder`, without `.yaml`, sorted."""
    return sorted(path.stem for path in folder.glob("*.yaml"))
