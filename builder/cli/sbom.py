"""`imgbuild sbom`: the bills of materials of a finished image."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import click

from builder import __version__
from builder.cli import options
from builder.cli.looking import ROOT, folder_of
from builder.cli.session import session
from builder.compare.manifest import read_manifest
from builder.core.context import Context
from builder.core.errors import UserError
from builder.core.events import Note
from builder.core.lookin import looked_in, prepare_to_look_in
from builder.lock.store import read_lock
from builder.model.artifacts import CYCLONEDX, SPDX, Manifest
from builder.model.bill import Bill
from builder.model.lock import Lock
from builder.pipeline import debian_archives
from builder.resolve import resolve
from builder.sbom.documents import write_bills
from builder.sbom.gather import gather


@click.command("sbom")
@click.argument("image", type=click.Path(path_type=Path))
@click.option(
    "--lock",
    "lock_file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="lock that the image was built from; default: that of its profile",
)
@options.debug
def command(image: Path, lock_file: Path | None, debug: bool) -> None:
    """Write the image's bills of materials beside it: sbom.spdx.json and sbom.cdx.json.

    IMAGE is a folder that imgbuild build made. Debian packages with their licences, wheels,
    container layers, models, kernel modules and firmware, in SPDX 2.3 and CycloneDX 1.6.
    imgbuild release takes both files along. It needs root, to look into the root image.
    """
    manifest, folder = read_manifest(image), folder_of(image)
    with session(debug=debug, live=False) as context:
        bill = _bill(context, manifest, folder, lock_file)
        write_bills(folder, bill)
        context.emit(Note("info", _summary(bill)))
    for name in (SPDX, CYCLONEDX):
        print(folder / name)


def _bill(context: Context, manifest: Manifest, folder: Path, lock_file: Path | None) -> Bill:
    spec = resolve(context.project, manifest.profile, manifest.site)
    path = lock_file or context.project.locks / f"{manifest.profile}.lock.json"
    if not path.is_file():
        raise UserError(f"{path}: there is no such lock", hint="name one with --lock")
    lock = read_lock(path, spec)
    check_fits(manifest, lock, path)
    prepare_to_look_in(context.runner)
    with context.cache.workspace("sbom") as work:
        point = work / "root"
        point.mkdir()
        with looked_in(context.runner, folder / ROOT, point) as tree:
            archives = debian_archives(spec, lock)
            return gather(manifest, lock, archives, tree, context.cache.root, __version__)


def check_fits(manifest: Manifest, lock: Lock, path: Path) -> None:
    """Raise UserError unless the image was built from packages of this lock."""
    if not manifest.is_built_from(lock):
        raise UserError(
            f"{path}: the image {manifest.image_id} {manifest.version} was built from another lock",
            hint="name that one with --lock, or build the image again",
        )


def _summary(bill: Bill) -> str:
    counts = Counter[str](one.kind for one in bill.components)
    names = {"deb": "packages", "wheel": "wheels", "layer": "layers", "module": "modules"}
    told = [f"{counts[kind]} {name}" for kind, name in names.items() if counts[kind]]
    licensed = [one for one in bill.components if one.kind in ("deb", "wheel") and one.licence]
    of = counts["deb"] + counts["wheel"]
    return f"{', '.join(told)}; {len(licensed)} of {of} packages and wheels state a licence"
