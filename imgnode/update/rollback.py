"""The way back by hand: the other version, from the next boot on."""

from __future__ import annotations

from pathlib import Path

from imgnode import process
from imgnode.bootentries import ENTRIES, Entry, entries, entry_of
from imgnode.update import state as remembered
from imgnode.update.facts import Facts
from imgnode.update.refused import WRITE, Refused
from imgnode.update.slots import other_slot

_SYNC_S = 60


def rollback(facts: Facts, root: Path = Path("/")) -> str:
    """Let the other version boot from now on; return it. Raises Refused or OSError.

    The running version's entry is renamed as one whose tries are used up
    (systemd-boot(7), automatic boot assessment), so that it comes last.
    """
    other = _other(facts, root)
    entry = entry_of(facts.stem, root)
    if entry is None:
        raise Refused(WRITE, f"{facts.stem} has no boot entry on the ESP", "bootctl list")
    version = other.stem.removeprefix(f"{facts.image_id}_")
    state = remembered.load(root).with_failed(facts.version, "it was rolled back by hand")
    remembered.save(state.without_failed(version), root)
    entry.path.rename(entry.path.with_name(f"{facts.stem}+0-3.efi"))
    process.run(["sync", "--file-system", str(root / ENTRIES)], timeout_s=_SYNC_S)
    return version


def _other(facts: Facts, root: Path) -> Entry:
    """Return the entry of the version in the other slot, which must be able to boot."""
    slot = other_slot(facts.stem, root)
    found = [one for one in entries(root) if one.stem == slot.label and one.bootable]
    if not found:
        fact = "the other slot holds no version that can be booted"
        raise Refused(WRITE, fact, "imgnode update status; bootctl list")
    return found[0]
