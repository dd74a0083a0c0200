"""What a release says of itself: its files, its patches, and the channel that leads to it.

docs/release-format.md explains each field. A node reads the same files without these classes.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Literal

from pydantic import AfterValidator, AwareDatetime, Field

from builder.model.base import Closed
from builder.model.lock import Sha256

# As image ids and versions are (builder/pipeline.py): none of them can leave its folder.
Plain = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9.-]*$", max_length=36)]
ChannelName = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]*$", max_length=24)]
FileName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._+-]*$", max_length=128)]
PartName = Literal["root.erofs", "root.verity", "uki.efi"]
Count = Annotated[int, Field(ge=0)]


def _utc_second(value: datetime) -> datetime:
    return value.astimezone(UTC).replace(microsecond=0)


Moment = Annotated[AwareDatetime, AfterValidator(_utc_second)]


class FullFile(Closed):
    """A part as a whole; `.zst` at its end says that it is compressed."""

    name: FileName
    bytes: Count
    sha256: Sha256


class Piece(Closed):
    """One zstd frame of a patch: the next part of the new file, made with a slice of the old."""

    bytes: Count = Field(description="length of the frame in the patch file")
    old_start: Count = Field(description="where the slice of the old file begins")
    old_bytes: Count = Field(description="length of the slice")


class Patch(Closed):
    """What turns a part of an older version into the new part (`zstd --patch-from`)."""

    name: FileName
    bytes: Count
    sha256: Sha256
    from_version: Plain
    from_sha256: Sha256 = Field(description="digest of the old part, unpacked")
    pieces: tuple[Piece, ...] = Field(description="in the order in which they make the new part")


class Part(Closed):
    """One of the three things that a slot takes, unpacked; and how to come by it."""

    name: PartName
    bytes: Count
    sha256: Sha256
    install_as: FileName = Field(description="name by which systemd-sysupdate takes it")
    full: FullFile
    patches: tuple[Patch, ...] = Field((), description="newest old version first")


class HashTree(Closed):
    """What `root.verity` depends on besides the root: a node may work it out itself."""

    salt: Annotated[str, Field(pattern=r"^([0-9a-f]{2})*$", max_length=512)]
    uuid: Annotated[str, Field(pattern=r"^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$")]


class FlashImage(Closed):
    """The disk image, for installing: sparse when unpacked."""

    name: FileName
    bytes: Count
    sha256: Sha256
    unpacked_bytes: Count
    bmap: FullFile | None = Field(None, description="block map of the unpacked image")


class Release(Closed):
    """`release.json`: what a version consists of, and the ways to get it."""

    schema_version: Literal[1] = 1
    image_id: Plain
    version: Plain
    root_hash: Sha256
    verity: HashTree
    parts: tuple[Part, ...]
    disk: FlashImage | None = None
    documents: tuple[FullFile, ...] = Field(
        (), description="what tells of the image: bills of materials, provenance"
    )

    def part(self, name: PartName) -> Part:
        """Return a part by name."""
        return next(part for part in self.parts if part.name == name)

    def files(self) -> dict[str, FullFile | Patch | FlashImage]:
        """Return every file that this names, by its name."""
        found: list[FullFile | Patch | FlashImage] = [self.disk] if self.disk else []
        found += [self.disk.bmap] if self.disk and self.disk.bmap else []
        found += self.documents
        for part in self.parts:
            found += [part.full, *part.patches]
        return {file.name: file for file in found}


class Channel(Closed):
    """`channels/IMAGE_ID/CHANNEL.json.asc`: which version a node of this channel shall have."""

    schema_version: Literal[1] = 1
    image_id: Plain
    channel: ChannelName
    serial: int = Field(ge=1, description="grows with each change; a node takes no smaller one")
    version: Plain
    sums_sha256: Sha256 = Field(description="digest of that version's SHA256SUMS")
    minimum: Plain | None = Field(None, description="oldest version that a node may still run")
    created: Moment
    expires: Moment = Field(description="a node takes nothing from this file later than that")
