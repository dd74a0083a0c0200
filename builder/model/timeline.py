"""How long a build and a boot took: what a report shows, and nothing that an image depends on."""

from __future__ import annotations

from pydantic import Field

from builder.model.base import Closed


class Span(Closed):
    """One step: when it began after the first one, and how long it took."""

    name: str
    start: float = Field(description="seconds")
    seconds: float
    note: str = Field("", description="such as `cached`")


class Timeline(Closed):
    """Steps in the order in which they began."""

    spans: tuple[Span, ...]
