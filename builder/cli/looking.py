"""What commands that look into images share: the inventory of a root, and a whole difference."""

from __future__ import annotations

from pathlib import Path

from builder.compare.changelogs import read_changelogs
from builder.compare.contents import compare_contents
from builder.compare.images import compare
from builder.compare.kernel import compare_kernels
from builder.compare.manifest import read_manifest
from builder.core.context import Context
from builder.core.lookin import looked_in, prepare_to_look_in
from builder.inspect.inventory import take_inventory
from builder.model.difference import Difference
from builder.model.inventory import Inventory

ROOT = "root.erofs"


def folder_of(image: Path) -> Path:
    """Return the folder of an image that is named by its folder or by its manifest.json."""
    return image if image.is_dir() else image.parent


def inventory_of(context: Context, image: Path) -> Inventory:
    """Return what is inside the root image of a folder; `prepare_to_look_in` comes first."""
    with context.cache.workspace("look") as work:
        point = work / "root"
        point.mkdir()
        with looked_in(context.runner, image / ROOT, point) as tree:
            return take_inventory(tree)


def difference(context: Context, old: Path, new: Path) -> Difference:
    """Return all that differs between two images, as far as what it takes is at hand.

    Raises UserError where the root images are there, and this user may not look in.
    """
    before, after = read_manifest(old), read_manifest(new)
    found = compare(before, after)
    logs, lacking = read_changelogs(before, after, context.cache.root)
    kernel, blind = compare_kernels(before, after, context.cache.root)
    folders = [folder_of(old), folder_of(new)]
    absent = [f"files: there is no {one / ROOT}" for one in folders if not (one / ROOT).is_file()]
    contents = None
    if not absent:
        prepare_to_look_in(context.runner)
        inventories = [inventory_of(context, folder) for folder in folders]
        contents = compare_contents(*inventories)
    more = {"changelogs": logs, "contents": contents, "kernel": kernel}
    return found.model_copy(update={**more, "not_told": (*absent, *lacking, *blind)})
