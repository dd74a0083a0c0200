"""The bill of materials of an image, in no format yet: what both formats are written from."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from builder.model.base import Closed

ComponentKind = Literal["deb", "wheel", "container", "layer", "model", "module", "firmware", "own"]


class Component(Closed):
    """One thing that an image consists of."""

    key: str = Field(description="names it inside this bill: letters, digits, dots, hyphens")
    kind: ComponentKind
    name: str
    version: str | None = None
    sha256: str | None = Field(None, description="of the file: .deb, wheel, layer, module")
    purl: str | None = Field(None, description="package URL; none where no type of it fits")
    licence: str | None = Field(None, description="SPDX expression; none: not machine-readable")
    supplier: str | None = None
    homepage: str | None = None
    summary: str | None = None
    part_of: tuple[str, ...] = Field(description="keys of what contains it; none: the image does")
    needs: tuple[str, ...] = Field((), description="keys of what it depends on")
    notes: dict[str, str] = Field(
        default_factory=dict, description="what no format has a field for"
    )


class LicenceText(Closed):
    """A licence that the SPDX list does not have."""

    ref: str = Field(description="LicenseRef-…")
    name: str = Field(description="as its source names it")
    text: str


class Bill(Closed):
    """Everything that an image consists of."""

    image_id: str
    version: str
    epoch: int = Field(description="time of the documents, seconds since 1970")
    tool: str = Field(description="version of imgbuild that wrote it")
    digest: str = Field(description="SHA-256 of the image's manifest: makes identifiers unique")
    components: tuple[Component, ...] = Field(description="sorted by key")
    texts: tuple[LicenceText, ...] = Field(description="sorted by ref")
