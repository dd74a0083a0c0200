"""`imgbuild diff`: what is different between two images, and what an update moves."""

from __future__ import annotations

from pathlib import Path

import click

from builder.cli import options
from builder.cli.difftext import print_difference
from builder.cli.looking import difference
from builder.cli.session import session
from builder.compare.images import compare
from builder.compare.manifest import read_manifest
from builder.core.files import write_atomic
from builder.report.diff import diff_page


@click.command("diff")
@click.argument("old", type=click.Path(path_type=Path))
@click.argument("new", type=click.Path(path_type=Path))
@click.option("--quick", is_flag=True, help="read the manifests only: packages, layers, sizes")
@click.option("--all", "everything", is_flag=True, help="print every line, not the first ones")
@click.option("--html", type=click.Path(path_type=Path), metavar="FILE", help="write a page, too")
@click.option("--json", "as_json", is_flag=True, help="for machines")
@options.debug
def command(
    old: Path,
    new: Path,
    quick: bool,
    everything: bool,
    html: Path | None,
    as_json: bool,
    debug: bool,
) -> None:
    """Show what is different between two images, and what an update from OLD to NEW moves.

    Packages with what Debian's changelogs say, and the CVE numbers in them; files, units,
    ports, users, rights and kernel options; layers and download. OLD and NEW are folders that
    imgbuild build made, or their manifest.json. Looking into root images needs root.
    """
    if quick:
        found = compare(read_manifest(old), read_manifest(new))
    else:
        with session(debug=debug, live=False) as context:
            found = difference(context, old, new)
    if html:
        write_atomic(html, diff_page(found))
    if as_json:
        print(found.model_dump_json(indent=1))
    else:
        print_difference(found, everything=everything)
