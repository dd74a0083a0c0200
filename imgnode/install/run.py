"""One installation, from an order to a disk that boots.

Whatever cuts it off, it may be started again with the same order: parts that are there are not
fetched again, layer files go on where they were, and no boot entry points at a slot that is not
whole.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from imgnode.download import Patience
from imgnode.install import firmware, table, vfat
from imgnode.install import var as var_
from imgnode.install.disks import Disk, choose, list_disks
from imgnode.install.order import Order
from imgnode.install.report import Reporter
from imgnode.install.stream import Origin, Place, stream
from imgnode.install.table import Layout
from imgnode.install.why import FOREIGN
from imgnode.update.channel import Wishes
from imgnode.update.facts import Facts
from imgnode.update.offer import Offer, fetch_channel, fetch_offer
from imgnode.update.refused import TOO_LARGE, Refused

_NOTHING = "0"  # older than every version: no other runs
LOADER = Path("usr/lib/imgnode/esp")  # of the installer: boot loader and its settings
_WORK = Path("run/imgnode/install")


@dataclass(frozen=True)
class Installed:
    """What was installed where; `uki` is a file of it that lies in memory."""

    offer: Offer
    disk: Path
    layout: Layout
    uki: Path

    @property
    def version(self) -> str:
        """The version that is on the disk."""
        return self.offer.recipe.version


def install(order: Order, reporter: Reporter, root: Path = Path("/")) -> Installed:
    """Install what an order says. Raises Refused or OSError.

    `root` is that of the installer: its keyring decides whose releases are believed.
    """
    work = root / _WORK
    work.mkdir(parents=True, exist_ok=True)
    list((root / LOADER).iterdir())  # an installer without a boot loader must not begin
    reporter.begin("disk")
    disk = choose(list_disks(), order.disk)
    reporter.disk = f"{disk.path.name} {disk.model} {disk.serial}".strip()
    reporter.begin("release")
    offer, manifest = _offer(order, work, root)
    reporter.version = offer.recipe.version
    layout = _layout(order, offer, manifest, disk, work, reporter)
    origin = Origin(offer.address, order.peers, reporter.note)
    _slot(offer, origin, layout, disk.path, reporter)
    _layers(order, offer, layout, disk.path, work, reporter)
    reporter.begin("seed")
    vfat.write_seed(disk.path, layout.cidata, order.seed, work)
    uki = _boot(offer, origin, layout, disk.path, root, reporter)
    if said := firmware.set_entry(disk.path, layout.esp, root):
        reporter.note(f"no boot entry of its own, so the disk boots by its default path: {said}")
    return Installed(offer, disk.path, layout, uki)


def _offer(order: Order, work: Path, root: Path) -> tuple[Offer, dict[str, object]]:
    """Return what the channel offers, all of it signed by a key of the installer."""
    facts = Facts(order.image_id, _NOTHING, 0, order.releases, order.channel, "stage")
    channel = fetch_channel(facts, order.channel, Wishes(), work, root)
    offer = fetch_offer(facts, channel, work, root)
    return offer, json.loads((work / "manifest.json").read_text())


def _layout(
    order: Order,
    offer: Offer,
    manifest: dict[str, object],
    chosen: Disk,
    work: Path,
    reporter: Reporter,
) -> Layout:
    """Return the partitions to write to: those that are there, with their `var`, or new ones."""
    disk, wanted = chosen.path, table.read_wanted(manifest)
    found = None if order.wipe else table.read_layout(disk)
    if found and table.has_var(disk, found):
        reporter.begin("keep")
        _check_room(offer, found, disk)
        _check_kind(disk, found, encrypted=table.wants_encryption(manifest))
        table.settle(disk)
        vfat.forget_entries(disk, found.esp)
        return found
    free = order.wipe or found or table.is_empty(disk) or table.is_half_made(disk)
    if not free:
        hint = "is it the right machine? then order it with wipe"
        raise Refused(FOREIGN, f"{disk}: holds data that is not an image's", hint)
    table.check_size(chosen, table.least_bytes(manifest, wanted, offer.layers))
    reporter.begin("table")
    return table.create(disk, wanted, work, var=not table.wants_encryption(manifest))


def _check_room(offer: Offer, layout: Layout, disk: Path) -> None:
    recipe = offer.recipe
    for part, place in ((recipe.root, layout.roots[0]), (recipe.verity, layout.trees[0])):
        if part.bytes > place.bytes:
            fact = f"{disk}: {part.name} has {part.bytes} bytes, its slot {place.bytes}"
            raise Refused(TOO_LARGE, fact, "order it with wipe, which gives up what var holds")


def _check_kind(disk: Path, layout: Layout, *, encrypted: bool) -> None:
    """Keep a `var` only where the version would take it."""
    if table.is_encrypted(disk, layout) is not encrypted:
        there, wants = ("is not", "to be") if encrypted else ("is", "not to be")
        fact = f"{disk}: var {there} encrypted, and this version wants it {wants}"
        raise Refused(FOREIGN, fact, "order it with wipe, which gives up what var holds")


def _slot(offer: Offer, origin: Origin, layout: Layout, disk: Path, reporter: Reporter) -> None:
    """Write root and hash tree into the first slot, which gets its name when both are there."""
    recipe, patience = offer.recipe, Patience()
    for slot in range(len(layout.roots)):
        table.name_slot(disk, layout, slot, table.EMPTY, None)
    for part, where in ((recipe.root, layout.roots[0]), (recipe.verity, layout.trees[0])):
        tell = reporter.begin(part.name, part.full.bytes)
        stream(part, origin, Place(disk, where.offset, where.bytes), patience, tell)
    table.name_slot(disk, layout, 0, recipe.stem, recipe.root_hash)


def _layers(
    order: Order, offer: Offer, layout: Layout, disk: Path, work: Path, reporter: Reporter
) -> None:
    if (var := table.plain_var(disk, layout)) is None:
        return  # the node fetches them itself
    tell = reporter.begin("layers", sum(one.bytes for one in offer.layers))
    with var_.mounted(disk, var, work / "target/var"):
        var_.bring_layers(offer, work / "target", order.releases, order.peers, tell)


def _boot(
    offer: Offer, origin: Origin, layout: Layout, disk: Path, root: Path, reporter: Reporter
) -> Path:
    """Install boot loader and kernel image, and return it: from here on the disk boots."""
    work, part = root / _WORK, offer.recipe.uki
    file = work / "uki.efi"
    file.touch()
    tell = reporter.begin(part.name, part.full.bytes)
    stream(part, origin, Place(file, 0, part.bytes), Patience(), tell)
    vfat.put_tree(disk, layout.esp, root / LOADER)
    vfat.put_entry(disk, layout.esp, file, offer.recipe.stem, work)
    return file
