"""Renders pages that need nothing beside them: style and pictures are inside."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from rich.filesize import decimal

_TEMPLATES = Path(__file__).parent / "templates"
_UNKNOWN = "\N{EN DASH}"
_MINUS = "\N{MINUS SIGN}"


def render(template: str, **values: object) -> str:
    """Return a page; every value is escaped."""
    return _environment().get_template(template).render(values)


@cache
def _environment() -> Environment:
    made = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {"size": size, "signed": signed, "seconds": seconds, "share": share}
    return made


def size(count: int | None) -> str:
    """Return bytes as people read them; a dash where they are not known."""
    return _UNKNOWN if count is None else decimal(count)


def signed(count: int) -> str:
    """Return a difference of bytes with its sign."""
    return f"{'+' if count > 0 else _MINUS if count < 0 else '±'}{decimal(abs(count))}"


def seconds(count: float) -> str:
    """Return a time as people read it."""
    if count >= 60:  # noqa: PLR2004 - a minute
        return f"{int(count // 60)} min {count % 60:.0f} s"
    return f"{count:.1f} s"


def share(part: float, whole: float) -> str:
    """Return a share in percent, with one digit where it is small."""
    if not whole:
        return _UNKNOWN
    percent = 100 * part / whole
    if part in (0, whole):
        return f"{percent:.0f} %"
    if percent > 99:  # noqa: PLR2004 - nearly all is not all
        return "> 99 %"
    return f"{percent:.0f} %" if percent >= 10 else f"{percent:.1f} %"  # noqa: PLR2004
