"""`release.json`: the parts of a version, whole or as patches (docs/release-format.md)."""

from __future__ import annotations

import re
import uuid
from dataclasses import dataclass
from typing import Any

from imgnode.update.channel import PLAIN

ROOT, VERITY, UKI = "root.erofs", "root.verity", "uki.efi"
_FILE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,127}")
_DIGEST = re.compile(r"[0-9a-f]{64}")
_SALT = re.compile(r"([0-9a-f]{2}){0,256}")
_MOST = 1 << 40


@dataclass(frozen=True)
class File:
    """One file on the server."""

    name: str
    bytes: int
    sha256: str


@dataclass(frozen=True)
class Piece:
    """One zstd frame of a patch, `bytes` long: a piece of the new part from a slice of the old."""

    bytes: int
    old_start: int
    old_bytes: int


@dataclass(frozen=True)
class Patch:
    """What turns an older part into the new one, piece by piece."""

    file: File
    from_version: str
    from_sha256: str
    pieces: tuple[Piece, ...]


@dataclass(frozen=True)
class Part:
    """One of the three things that a slot takes; `install_as` is sysupdate's name for it."""

    name: str
    bytes: int
    sha256: str
    install_as: str
    full: File
    patches: tuple[Patch, ...]

    def patch_from(self, version: str) -> Patch | None:
        """Return the patch that starts at a version."""
        return next((one for one in self.patches if one.from_version == version), None)


@dataclass(frozen=True)
class Recipe:
    """A version; salt and UUID are those of its dm-verity tree."""

    image_id: str
    version: str
    root_hash: str
    salt: bytes
    uuid: uuid.UUID
    root: Part
    verity: Part
    uki: Part

    @property
    def stem(self) -> str:
        """The label of its partitions, and the name of its boot entry."""
        return f"{self.image_id}_{self.version}"


def parse_recipe(values: dict[str, Any]) -> Recipe:
    """Return what a release.json says; names can leave no folder, numbers are bounded.

    Raises ValueError, KeyError or TypeError for anything unexpected.
    """
    if values["schema_version"] != 1:
        raise ValueError(f"release.json of version {values['schema_version']!r} is not known")
    parts = {part["name"]: _part(part) for part in values["parts"]}
    if set(parts) != {ROOT, VERITY, UKI}:
        raise ValueError(f"parts are {', '.join(sorted(parts))}")
    recipe = Recipe(
        image_id=_text(PLAIN, values["image_id"]),
        version=_text(PLAIN, values["version"]),
        root_hash=_text(_DIGEST, values["root_hash"]),
        salt=bytes.fromhex(_text(_SALT, values["verity"]["salt"])),
        uuid=uuid.UUID(values["verity"]["uuid"]),
        root=parts[ROOT],
        verity=parts[VERITY],
        uki=parts[UKI],
    )
    if [part.install_as for part in (recipe.root, recipe.verity, recipe.uki)] != _names(recipe):
        raise ValueError("its parts would be installed under names that are not theirs")
    return recipe


def _names(recipe: Recipe) -> list[str]:
    """Return the names of the parts: the partitions' UUIDs are the halves of the root hash."""
    halves = (uuid.UUID(recipe.root_hash[:32]), uuid.UUID(recipe.root_hash[32:]))
    stem = recipe.stem
    return [f"{stem}_{halves[0]}.root.raw", f"{stem}_{halves[1]}.verity.raw", f"{stem}.efi"]


def _part(values: dict[str, Any]) -> Part:
    return Part(
        name=values["name"],
        bytes=_count(values["bytes"]),
        sha256=_text(_DIGEST, values["sha256"]),
        install_as=_text(_FILE, values["install_as"]),
        full=_file(values["full"]),
        patches=tuple(_patch(one) for one in values["patches"]),
    )


def _patch(values: dict[str, Any]) -> Patch:
    return Patch(
        file=_file(values),
        from_version=_text(PLAIN, values["from_version"]),
        from_sha256=_text(_DIGEST, values["from_sha256"]),
        pieces=tuple(_piece(one) for one in values["pieces"]),
    )


def _piece(values: dict[str, Any]) -> Piece:
    names = ("bytes", "old_start", "old_bytes")
    return Piece(*(_count(values[name]) for name in names))


def _file(values: dict[str, Any]) -> File:
    return File(
        name=_text(_FILE, values["name"]),
        bytes=_count(values["bytes"]),
        sha256=_text(_DIGEST, values["sha256"]),
    )


def _text(pattern: re.Pattern[str], value: str) -> str:
    if not pattern.fullmatch(value):
        raise ValueError(f"{value[:100]!r} does not fit")
    return value


def _count(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= _MOST:
        raise ValueError(f"{value!r} is no number of bytes")
    return value
