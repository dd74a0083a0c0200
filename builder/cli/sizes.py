"""`imgbuild sizes`: what each part of an image takes."""

from __future__ import annotations

import json
from pathlib import Path

import click

from builder.cli.tables import percent, show, size, table
from builder.compare.manifest import newest_image, read_manifest
from builder.compare.parts import parts, total
from builder.core.paths import Project
from builder.model.artifacts import Manifest
from builder.model.difference import Part
from builder.model.driver import DriverFacts


@click.command("sizes")
@click.argument("image", required=False, type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="for machines")
def command(image: Path | None, as_json: bool) -> None:
    """Show what each part of an image takes: root, kernel, container layers, models.

    IMAGE is a folder that imgbuild build made, or its manifest.json; without it, the
    newest below out/.
    """
    manifest = read_manifest(image or newest_image(Project.find().out))
    found = parts(manifest)
    if as_json:
        told = {
            "image_id": manifest.image_id,
            "version": manifest.version,
            "root_slot_bytes": manifest.root_slot_bytes,
            "bytes": total(found),
            "parts": [one.model_dump() for one in found],
            "driver": manifest.driver.model_dump() if manifest.driver else None,
        }
        print(json.dumps(told, indent=1))
        return
    _print(manifest, found)


def _print(manifest: Manifest, found: tuple[Part, ...]) -> None:
    whole = total(found)
    numbers = ("UNPACKED", "FILE", "PACKED", "OF ALL")
    rows = table("PART", "HOLDS", *numbers, right=numbers)
    for one in found:
        packed = percent(one.bytes, one.unpacked) if one.unpacked else ""
        share = percent(one.bytes, whole)
        rows.add_row(one.kind, one.title, size(one.unpacked), size(one.bytes), packed, share)
    rows.add_row("sum", "", "", size(whole), "", percent(whole, whole))
    print(f"{manifest.image_id} {manifest.version}")
    show(rows)
    share = percent(manifest.root_bytes, manifest.root_slot_bytes)
    print(f"the root takes {share} of its slot of {size(manifest.root_slot_bytes)}")
    if manifest.driver:
        print(_told(manifest.driver))


def _told(driver: DriverFacts) -> str:
    """Return a line about the driver in the root: its modules by size, the largest first."""
    largest = sorted(driver.modules, key=lambda module: module.bytes, reverse=True)
    modules = ", ".join(f"{module.name} {size(module.bytes)}" for module in largest)
    signers = {module.signer for module in driver.modules}
    signed = f"signed by {', '.join(sorted(filter(None, signers)))}" if any(signers) else "unsigned"
    return f"driver {driver.version}, {driver.kind}, {signed}: {modules}"
