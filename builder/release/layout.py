"""What the files of a version are called, and what must agree between them."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping

from builder.model.artifacts import DOCUMENTS, Manifest
from builder.model.release import Part, PartName, Release
from builder.release.repository import MANIFEST, RELEASE

ROOT: PartName = "root.erofs"
TREE: PartName = "root.verity"
UKI: PartName = "uki.efi"
PARTS: tuple[PartName, ...] = (ROOT, TREE, UKI)
FULL: Mapping[PartName, str] = {name: f"{name}.zst" for name in PARTS}
PATCHED: tuple[PartName, ...] = (ROOT, UKI)  # the tree has another salt in each version
DISK = "disk.raw.zst"
MAP = "disk.raw.bmap"  # where bmaptool(1) looks for it
Fact = tuple[str, str]  # a file's name, and what is wrong with it


def patch_name(part: PartName, old: str) -> str:
    """Return the name of the patch that makes a part from that of an older version."""
    return f"{part.partition('.')[0]}.from-{old}.zstpatch"


def install_names(image_id: str, version: str, root_hash: str) -> dict[PartName, str]:
    """Return the names by which systemd-sysupdate takes the parts.

    The partitions' UUIDs are the halves of the root hash (UAPI.2, Discoverable Partitions
    Specification); `@u` of a pattern takes them from the name (sysupdate.d(5)).
    """
    stem = f"{image_id}_{version}"
    return {
        ROOT: f"{stem}_{uuid.UUID(root_hash[:32])}.root.raw",
        TREE: f"{stem}_{uuid.UUID(root_hash[32:])}.verity.raw",
        UKI: f"{stem}.efi",
    }


def sums(release: Release, manifest_sha256: str, release_sha256: str) -> dict[str, str]:
    """Return what a version's SHA256SUMS must say: each file, and each part when installed."""
    found = {MANIFEST: manifest_sha256, RELEASE: release_sha256}
    found |= {name: file.sha256 for name, file in release.files().items()}
    return found | {part.install_as: part.sha256 for part in release.parts}


def disagreements(
    manifest: Manifest, release: Release, listed: Mapping[str, str], image_id: str, version: str
) -> Iterator[Fact]:
    """Yield what does not agree between a version's folder, manifest, release and sums."""
    for name, one in ((MANIFEST, manifest), (RELEASE, release)):
        if (one.image_id, one.version) != (image_id, version):
            said = f"{one.image_id}/{one.version}"
            yield name, f"is of {said}, and lies in {image_id}/{version}"
        if one.root_hash != manifest.root_hash:
            yield name, f"has another root hash than {MANIFEST}"
    if [part.name for part in release.parts] != list(PARTS):
        yield RELEASE, f"parts are not {', '.join(PARTS)}"
        return
    for part in release.parts:
        yield from _part_facts(manifest, part)
    for document in release.documents:
        if document.name not in DOCUMENTS:
            yield document.name, f"is none of {', '.join(DOCUMENTS)}"
    expected = sums(release, listed.get(MANIFEST, ""), listed.get(RELEASE, ""))
    for name in sorted(expected.keys() | listed.keys()):
        if expected.get(name) != listed.get(name):
            yield name, f"SHA256SUMS and {RELEASE} do not agree on it"


def _part_facts(manifest: Manifest, part: Part) -> Iterator[Fact]:
    made = {one.name: (one.bytes, one.sha256) for one in manifest.artifacts}
    if made.get(part.name) != (part.bytes, part.sha256):
        yield RELEASE, f"{part.name} is another file than in {MANIFEST}"
    names = install_names(manifest.image_id, manifest.version, manifest.root_hash)
    if part.install_as != names[part.name]:
        yield RELEASE, f"{part.name}: install_as must be {names[part.name]}"
    if part.full.name not in (FULL[part.name], part.name):
        yield RELEASE, f"{part.name}: full must be {FULL[part.name]}"
    for patch in part.patches:
        if patch.name != patch_name(part.name, patch.from_version):
            yield patch.name, f"must be called {patch_name(part.name, patch.from_version)}"
        if sum(piece.bytes for piece in patch.pieces) != patch.bytes:
            yield patch.name, "its pieces are not the whole of it"
