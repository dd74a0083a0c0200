"""The common base of all hand-over values: frozen, closed, validated."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ByteSize, ConfigDict, Field

MIB = 1 << 20
_SIZE = re.compile(r"\s*\d{1,18}(\.\d{1,6})?\s*[A-Za-z]*\s*")


class Closed(BaseModel):
    """A frozen value that refuses keys it does not know."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def _whole_size(value: object) -> object:
    """Refuse what ByteSize lets through: trailing text, numbers without end, negative ones."""
    if isinstance(value, str) and not _SIZE.fullmatch(value):
        raise ValueError("must be a number with a unit, such as 512MiB")
    if isinstance(value, int) and value < 0:
        raise ValueError("must not be negative")
    return value


Size = Annotated[
    ByteSize,
    BeforeValidator(_whole_size),
    Field(description="a size in bytes, or with a unit: 512MiB, 1GiB", examples=["512MiB"]),
]
Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]*$", max_length=24)]
PackageName = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9+.-]+$")]
Word = Annotated[str, Field(pattern=r"^\S+$")]
Line = Annotated[str, Field(pattern=r"^[^\r\n]*$")]
