"""`imgbuild rebuild`: builds an image or a release again, and compares the bytes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import click

from builder.cli import options
from builder.cli.session import session
from builder.compare.manifest import read_manifest
from builder.core.context import Context
from builder.core.errors import UserError
from builder.core.events import Note
from builder.core.gpg import need_programs, public_keyring
from builder.disk.measure import pcr_signature_of
from builder.disk.secureboot import UKI, signatures_of
from builder.lock.store import read_lock
from builder.model.artifacts import LOCK, Manifest
from builder.pipeline import Built, build_image, identify, sources
from builder.rebuild.compare import NOT_REBUILT, Verdict, compare_rebuilt
from builder.rebuild.inputs import check_inputs
from builder.release.repository import RELEASE, Repository
from builder.release.unpack import unpack_version
from builder.release.verify import begin, check_version
from builder.resolve import resolve

_DOWNLOADS = ("debs", "wheels")  # by digest, and checked again when they are used


@click.command("rebuild")
@click.argument("image", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option(
    "--keyring",
    "keyrings",
    multiple=True,
    type=click.Path(path_type=Path, exists=True),
    help="public keys: the release must be signed by one of them",
)
@click.option(
    "--lock",
    "lock_file",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="lock that the image was built from; default: lock.json beside it",
)
@click.option("--keep", type=click.Path(path_type=Path), help="folder for the image built again")
@options.debug
def command(
    image: Path, keyrings: tuple[Path, ...], lock_file: Path | None, keep: Path | None, debug: bool
) -> None:
    """Build an image again from its own lock, and compare every byte (exit 1: it differs).

    IMAGE is the folder of a version in a release repository, or one that imgbuild build made.
    Every stage is made anew; what the lock names is fetched, and then the network is left. The
    project must be as it was: the image's provenance says so. Signatures of Secure Boot and
    for TPMs are taken from the image; they fit only the same bytes.
    """
    with session(debug=debug) as context, context.cache.workspace("rebuild") as work:
        first = _first(context, image.absolute(), keyrings, work)
        target = keep.absolute() if keep else work / "again"
        before = read_manifest(first)
        built = _again(context, first, before, lock_file, target, work)
        verdicts = compare_rebuilt(first, built.folder, before, built.manifest)
        left = [name for name in NOT_REBUILT if (first / name).is_file()]
    _tell(before, verdicts, left)
    if not all(one.same for one in verdicts):
        raise click.exceptions.Exit(1)


def _first(context: Context, image: Path, keyrings: tuple[Path, ...], work: Path) -> Path:
    """Return the folder with the first image, as imgbuild build made it; checked by `keyrings`."""
    if not (image / RELEASE).is_file():
        if keyrings:
            raise UserError(
                f"{image}: is no version of a release, so nobody has signed it",
                hint="leave --keyring out, or name IMAGE_ID/VERSION of a repository",
            )
        return image
    need_programs("zstd")
    if keyrings:
        _check_signed(context, image, keyrings, work)
    else:
        context.emit(Note("warning", "the release's signature is not checked (--keyring)"))
    target = work / "first"
    unpack_version(context.runner, Repository(image.parents[1]), image, target)
    return target


def _check_signed(context: Context, image: Path, keyrings: tuple[Path, ...], work: Path) -> None:
    need_programs("gpg", "gpgv", "bwrap")
    keyring, scratch = work / "keyring.gpg", work / "scratch"
    public_keyring(context.runner, keyrings, keyring)
    scratch.mkdir()
    check = begin(context, Repository(image.parents[1]), keyring, scratch)
    check_version(check, image.parent.name, image.name)
    if check.verdict.problems:
        told = "\n".join(f"{one.where}: {one.what}" for one in check.verdict.problems)
        raise UserError(told, hint="a release that is not good is not built again")


def _again(
    context: Context, first: Path, before: Manifest, lock_file: Path | None, out: Path, work: Path
) -> Built:
    """Build the image of the manifest `before` into `out`, with a cache of its own."""
    spec = resolve(context.project, before.profile, before.site)
    path = lock_file or first / LOCK
    if not path.is_file():
        raise UserError(f"{path}: there is no such lock", hint="name one with --lock")
    lock = read_lock(path, spec)
    check_inputs(first, lock, sources(context, spec))
    signatures: dict[str, Path] = {}
    if spec.site.secure_boot:
        need_programs("sbattach")
        signatures = signatures_of(context.runner, first, before, work / "signatures")
    if spec.site.pcr_key:
        need_programs("objcopy")
        signatures |= pcr_signature_of(context.runner, first / UKI, work / "pcr-signature")
    alone = _own_cache(context, work / "cache")
    return build_image(
        alone,
        spec,
        lock,
        identify(alone, spec, lock, before.version),
        out,
        carry_layers=any(one.type == "var" for one in before.disk.partitions),
        signatures=signatures,
    )


def _own_cache(context: Context, root: Path) -> Context:
    """Return a context with an empty cache, but for what was downloaded."""
    root.mkdir()
    for name in _DOWNLOADS:
        downloads = context.cache.root / name
        downloads.mkdir(exist_ok=True)
        (root / name).symlink_to(downloads)
    return replace(context, cache=replace(context.cache, root=root, fresh=False, _held=[]))


def _tell(before: Manifest, verdicts: list[Verdict], left: list[str]) -> None:
    width = max(len(one.name) for one in verdicts)
    for one in verdicts:
        state = "same" if one.same else "DIFFERS"
        print(f"{state:7}  {one.name:{width}}  {one.told}".rstrip())
    for name in left:
        print(f"{'-':7}  {name:{width}}  is made by imgbuild sbom, not by a build")
    wrong = [one.name for one in verdicts if not one.same]
    title = f"{before.image_id} {before.version}"
    if wrong:
        print(f"{title}: NOT the same: {', '.join(wrong)}")
    else:
        print(f"{title}: the same bytes in all {len(verdicts)} files")
