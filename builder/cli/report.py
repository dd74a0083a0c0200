"""`imgbuild report`: a page about a finished image."""

from __future__ import annotations

from pathlib import Path

import click

from builder.cli import options
from builder.cli.looking import ROOT, difference, folder_of, inventory_of
from builder.cli.session import session
from builder.cli.timelines import read_timeline
from builder.compare.manifest import newest_image, read_manifest
from builder.compare.parts import parts
from builder.core.context import Context
from builder.core.files import write_atomic
from builder.core.lookin import prepare_to_look_in
from builder.core.paths import Project
from builder.model.artifacts import CYCLONEDX, Manifest
from builder.report.bill import read_summary
from builder.report.boot import read_boot
from builder.report.junit import Results, read_tests
from builder.report.report import Known, report_page

_PAGE = "report.html"


@click.command("report")
@click.argument("image", required=False, type=click.Path(path_type=Path))
@click.option("--to", type=click.Path(path_type=Path), help="default: report.html beside the image")
@click.option(
    "--against", type=click.Path(path_type=Path), help="default: the version built before"
)
@click.option(
    "--boot",
    "boot_file",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="what systemd-analyze time and systemd-analyze blame printed on a node",
)
@click.option(
    "--tests",
    "test_files",
    multiple=True,
    type=click.Path(path_type=Path),
    help="what pytest --junitxml wrote; may be repeated",
)
@options.debug
def command(
    image: Path | None,
    to: Path | None,
    against: Path | None,
    boot_file: Path | None,
    test_files: tuple[Path, ...],
    debug: bool,
) -> None:
    """Write a page about an image: sizes, build, boot, tests, what changed, bill of materials.

    IMAGE is a folder that imgbuild build made; without it, the newest below out/. The page needs
    nothing beside it. It needs root, to look into root images.
    """
    folder = folder_of(image or newest_image(Project.find().out))
    manifest = read_manifest(folder)
    against, tests = against or _before(folder), read_tests(test_files)
    with session(debug=debug, live=False) as context:
        known = _known(context, folder, manifest, against, boot_file, tests)
    page = to or folder / _PAGE
    write_atomic(page, report_page(known))
    print(page)


def _known(
    context: Context,
    folder: Path,
    manifest: Manifest,
    against: Path | None,
    boot_file: Path | None,
    tests: Results | None,
) -> Known:
    notes, inventory, build = [], None, read_timeline(context, manifest)
    if (folder / ROOT).is_file():
        prepare_to_look_in(context.runner)
        inventory = inventory_of(context, folder)
    else:
        notes.append(f"what is inside the root: there is no {ROOT}")
    if build is None:
        notes.append("how long the build took: it was built elsewhere, or before reports were")
    if boot_file is None:
        notes.append("how long a node takes to boot: give a node's times with --boot")
    bill = read_summary(folder / CYCLONEDX)
    if bill is None:
        notes.append("the bill of materials: imgbuild sbom makes it")
    if tests is None:
        notes.append("how its tests ended: give what pytest --junitxml wrote with --tests")
    if against is None:
        notes.append("what is new: no version before this one is at hand")
    boot = read_boot(boot_file.read_text(errors="replace")) if boot_file else (None, None)
    return Known(
        manifest=manifest,
        parts=parts(manifest),
        inventory=inventory,
        build=build,
        boot=boot[0],
        units=boot[1],
        bill=bill,
        difference=difference(context, against, folder) if against else None,
        notes=notes,
        tests=tests,
    )


def _before(folder: Path) -> Path | None:
    """Return the image of the same profile that was built last before this one."""
    own = (folder / "manifest.json").stat().st_mtime
    found = list(folder.absolute().parent.glob("[!.]*/manifest.json"))
    older = [path for path in found if path.stat().st_mtime < own]
    newest = max(older, key=lambda path: path.stat().st_mtime, default=None)
    return newest.parent if newest else None
