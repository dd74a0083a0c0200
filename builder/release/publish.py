"""Turns the folder of an image into a version of a release repository.

The version's folder takes its name when every file in it is there, checked and flushed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from builder.core.blockmap import ENDING, BlockMap, map_text, read_map
from builder.core.blockscan import scan, wrong_range
from builder.core.context import Context
from builder.core.errors import UserError
from builder.core.events import Note
from builder.core.files import copy_sparse, link_or_copy, scratch
from builder.core.hashing import sha256_file
from builder.model.artifacts import CYCLONEDX, DOCUMENTS, SPDX, Manifest
from builder.model.release import (
    FlashImage,
    FullFile,
    HashTree,
    Part,
    PartName,
    Patch,
    Release,
)
from builder.release import zstd
from builder.release.documents import fault
from builder.release.layout import (
    DISK,
    FULL,
    MAP,
    PARTS,
    PATCHED,
    TREE,
    install_names,
    patch_name,
    sums,
)
from builder.release.repository import (
    LAYERS,
    MANIFEST,
    PART,
    RELEASE,
    SIGNATURE,
    SUMS,
    Repository,
    damaged,
    read_release,
)
from builder.release.sign import Signer
from builder.release.unpack import unpack_part
from imgnode.release.sums import sums_text
from imgnode.release.verity import read_facts
from imgnode.release.versions import is_older


@dataclass(frozen=True)
class Image:
    """A finished image: its folder as `imgbuild build` made it, and its manifest."""

    folder: Path
    manifest: Manifest


@dataclass(frozen=True)
class Wanted:
    """What a version shall bring: patches from so many older ones, and the disk image."""

    patches: int
    disk: bool


def publish(
    context: Context, image: Image, repository: Repository, signer: Signer, wanted: Wanted
) -> bool:
    """Put an image into the repository, which is locked; tell whether there was anything to do.

    Raises UserError when the image is damaged, or the version is there with other content.
    """
    manifest = image.manifest
    final = repository.version(manifest.image_id, manifest.version)
    if final.exists():
        _check_same(image, final)
        return False
    check_image(image)
    _store_layers(context, image, repository)
    with _appearing(context, final) as folder, context.cache.workspace("release") as work:
        release = _files(context, image, repository, wanted, folder, work)
        (folder / RELEASE).write_text(release.model_dump_json(indent=1) + "\n")
        copy_sparse(context.runner, image.folder / MANIFEST, folder / MANIFEST)
        own = [sha256_file(folder / name) for name in (MANIFEST, RELEASE)]
        text = sums_text(sums(release, *own))
        (folder / SUMS).write_text(text)
        (folder / SIGNATURE).write_text(signer.sign(text, work))
    return True


def check_image(image: Image) -> None:
    """Raise UserError unless every file of the image is as its manifest says."""
    files = {one.name: (one.bytes, one.sha256) for one in image.manifest.artifacts}
    missing = [name for name in PARTS if name not in files]
    if missing:
        raise UserError(f"{image.folder / MANIFEST}: names no {missing[0]}", hint=_REBUILD)
    wanted: dict[str, tuple[int, str]] = {name: files[name] for name in PARTS}
    for layer in image.manifest.payload.files:
        wanted[f"{LAYERS}/{layer.name}"] = layer.bytes, layer.sha256
    for name, (size, digest) in wanted.items():
        path = image.folder / name
        if not path.is_file():
            raise UserError(f"{path}: is missing", hint=_REBUILD)
        if path.stat().st_size != size or sha256_file(path) != digest:
            raise UserError(f"{path}: is not the file that {MANIFEST} names", hint=_REBUILD)
    for name in DOCUMENTS:
        path = image.folder / name
        wrong = fault(path, image.manifest) if path.is_file() else None
        if wrong:
            hint = "imgbuild sbom makes it anew" if name in (CYCLONEDX, SPDX) else _REBUILD
            raise UserError(f"{path}: {wrong}", hint=hint)


_REBUILD = "the image is damaged: build it again"


def _check_same(image: Image, final: Path) -> None:
    """Raise UserError unless the published version is this image, whole."""
    try:
        same = (final / MANIFEST).read_bytes() == (image.folder / MANIFEST).read_bytes()
    except OSError as error:
        raise damaged(final / MANIFEST, error) from None
    if not same:
        raise UserError(
            f"{final}: this version is published already, with other content",
            hint="give the new image another version (imgbuild build --version): nodes rely on it",
        )
    for name, file in read_release(final).files().items():
        path = final / name
        if not path.is_file() or path.stat().st_size != file.bytes:
            hint = "bring it back from a copy, or remove the version's folder and release it again"
            raise UserError(f"{path}: is missing or cut short", hint=hint)


def _store_layers(context: Context, image: Image, repository: Repository) -> None:
    for layer in image.manifest.payload.files:
        target = repository.layers / layer.name
        if target.exists():
            if target.stat().st_size != layer.bytes or sha256_file(target) != layer.sha256:
                hint = "remove the file and release the image again"
                raise UserError(f"{target}: is damaged", hint=hint)
            continue
        target.parent.mkdir(exist_ok=True)
        part = target.with_name(f".{target.name}{PART}")
        try:
            link_or_copy(context.runner, image.folder / LAYERS / layer.name, part)
            part.rename(target)
        finally:
            part.unlink(missing_ok=True)


@contextmanager
def _appearing(context: Context, final: Path) -> Iterator[Path]:
    folder = final.with_name(f".{final.name}{PART}")
    with scratch(folder):
        yield folder
        for path in folder.iterdir():
            path.chmod(0o444)
        context.runner.run(["sync", "--file-system", folder])
        folder.rename(final)
        context.runner.run(["sync", final.parent])


def _files(
    context: Context,
    image: Image,
    repository: Repository,
    wanted: Wanted,
    folder: Path,
    work: Path,
) -> Release:
    """Write the files of a version into `folder`; return what its release.json says."""
    manifest, runner = image.manifest, context.runner
    olds = predecessors(repository, manifest, wanted.patches)
    patches: dict[PartName, list[Patch]] = {name: [] for name in PARTS}
    for old in olds:
        for name in PATCHED:
            context.emit(Note("info", f"{name}: patch from {old.version}"))
            patches[name].append(_patch(context, image, repository, old, name, folder, work))
    names = install_names(manifest.image_id, manifest.version, manifest.root_hash)
    parts = []
    for name in PARTS:
        target = folder / FULL[name]
        context.emit(Note("info", f"{name}: compressing"))
        zstd.compress(runner, image.folder / name, target)
        parts.append(_part(image, name, names[name], target, patches[name]))
    facts = read_facts(image.folder / TREE)
    return Release(
        image_id=manifest.image_id,
        version=manifest.version,
        root_hash=manifest.root_hash,
        verity=HashTree(salt=facts.salt.hex(), uuid=str(facts.uuid)),
        parts=tuple(parts),
        disk=_disk(context, image, folder) if wanted.disk else None,
        documents=tuple(_documents(context, image, folder)),
    )


def _documents(context: Context, image: Image, folder: Path) -> Iterator[FullFile]:
    """Copy what tells of the image, as far as it was made."""
    for name in DOCUMENTS:
        if not (image.folder / name).is_file():
            continue
        target = folder / name
        copy_sparse(context.runner, image.folder / name, target)
        yield FullFile(name=name, bytes=target.stat().st_size, sha256=sha256_file(target))


def predecessors(repository: Repository, manifest: Manifest, count: int) -> list[Release]:
    """Return the newest `count` releases of the image that are older than this one."""
    image_id, version = manifest.image_id, manifest.version
    older = [name for name in repository.versions(image_id) if is_older(name, version)]
    return [read_release(repository.version(image_id, name)) for name in older[:count]]


def _patch(
    context: Context,
    image: Image,
    repository: Repository,
    old: Release,
    name: PartName,
    folder: Path,
    work: Path,
) -> Patch:
    """Write one patch into `folder`, and try it."""
    before, again = work / "old", work / "again"
    target = folder / patch_name(name, old.version)
    new = image.folder / name
    unpack_part(context.runner, repository.version(old.image_id, old.version), old, name, before)
    pieces = zstd.make_patch(context.runner, before, new, target, work)
    zstd.apply_patch(context.runner, before, target, pieces, again, work)
    if sha256_file(again) != sha256_file(new):
        raise UserError(f"{target.name}: zstd made a patch that does not work", hint="try again")
    before.unlink()
    again.unlink()
    return Patch(
        name=target.name,
        bytes=target.stat().st_size,
        sha256=sha256_file(target),
        from_version=old.version,
        from_sha256=old.part(name).sha256,
        pieces=pieces,
    )


def _part(
    image: Image, name: PartName, install_as: str, full: Path, patches: Sequence[Patch]
) -> Part:
    artifact = next(one for one in image.manifest.artifacts if one.name == name)
    return Part(
        name=name,
        bytes=artifact.bytes,
        sha256=artifact.sha256,
        install_as=install_as,
        full=FullFile(name=full.name, bytes=full.stat().st_size, sha256=sha256_file(full)),
        patches=tuple(patches),
    )


def _disk(context: Context, image: Image, folder: Path) -> FlashImage:
    source, target = image.folder / image.manifest.disk.name, folder / DISK
    context.emit(Note("info", f"{source.name}: compressing"))
    written = folder / MAP
    written.write_text(map_text(_map(source)))
    zstd.compress(context.runner, source, target, zstd.QUICK)
    return FlashImage(
        name=target.name,
        bytes=target.stat().st_size,
        sha256=sha256_file(target),
        unpacked_bytes=source.stat().st_size,
        bmap=FullFile(name=written.name, bytes=written.stat().st_size, sha256=sha256_file(written)),
    )


def _map(disk: Path) -> BlockMap:
    """Return the block map of a disk image. Raises UserError unless it is as it was built."""
    written = disk.with_name(f"{disk.name}{ENDING}")
    if not written.is_file():  # of an imgbuild that wrote none
        return scan(disk)
    found = read_map(written)
    if found.image_bytes != disk.stat().st_size or wrong_range(disk, found):
        raise UserError(f"{disk}: is not what {written.name} says", hint=_REBUILD)
    return found
