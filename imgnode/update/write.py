"""Writes a staged version into the other slot: systemd-sysupdate(8) from local files, UKI last."""

from __future__ import annotations

import hashlib
import os
import shutil
import time
from dataclasses import replace
from pathlib import Path

from imgnode import process
from imgnode.bootentries import ENTRIES, entry_of
from imgnode.update import state as remembered
from imgnode.update.facts import Facts
from imgnode.update.rebuild import sha256
from imgnode.update.refused import BUSY, DAMAGED, WRITE, Refused
from imgnode.update.slots import other_slot
from imgnode.update.stage import Staged, clear
from imgnode.update.state import Applied

_SYSUPDATE = "/usr/lib/systemd/systemd-sysupdate"
_DEFINITIONS = Path("run/imgnode/update")
_WRITE_S = 1800
_CHUNK = 1 << 20
_LEFT_OVER = (".#sysupdate", "FSCK")  # half a file; what fsck.vfat(8) has renamed
_PARTITION = """\
[Transfer]
ProtectVersion={version}
[Source]
Type=regular-file
Path={folder}
MatchPattern={image_id}_@v_@u.{kind}.raw
[Target]
Type=partition
Path=auto
MatchPattern={image_id}_@v
MatchPartitionType={type}
ReadOnly=1
"""
# The names that systemd-bless-boot(8) gives on the way to a good entry, +TRIES-DONE.
_ENTRY = """\
[Transfer]
ProtectVersion={version}
[Source]
Type=regular-file
Path={folder}
MatchPattern={image_id}_@v.efi
[Target]
Type=regular-file
Path=/EFI/Linux
PathRelativeTo=boot
MatchPattern={image_id}_@v+@l-@d.efi {image_id}_@v+@l.efi {image_id}_@v.efi
Mode=0444
TriesLeft=3
TriesDone=0
InstancesMax=2
"""


def write(staged: Staged, facts: Facts, root: Path = Path("/")) -> None:
    """Write a staged version and check what was written. Raises Refused or OSError.

    Until the boot entry is there, which comes last, the node boots what runs now.
    """
    _check_good(facts, root)
    for name, digest in staged.sha256.items():
        path = staged.folder / name
        if not path.is_file() or sha256(path) != digest:
            clear(root)
            raise Refused(DAMAGED, f"{path}: is not what was staged", "stage it again; dmesg")
    _forget_others(facts, root)
    state = remembered.load(root).without_failed(staged.version)
    applied = Applied(staged.version, facts.version, int(time.time()))
    remembered.save(replace(state, applied=applied), root)  # first: what boots next is known then
    folder = _definitions(staged, facts, root)
    # Its 252 finds no room for a version whose name the other slot's partitions have already: after
    # a rollback, or a power cut before the entry came. So the slot loses its name first.
    _sysupdate(folder, "--instances-max=1", "vacuum")
    _sysupdate(folder, "update", staged.version)
    process.run(["udevadm", "settle"], timeout_s=_WRITE_S)  # who asks for labels gets the new ones
    _check_written(staged, facts, root)
    clear(root)


def _sysupdate(definitions: Path, *words: str) -> None:
    """Let systemd-sysupdate(8) do something. Raises Refused when it fails."""
    done = process.run([_SYSUPDATE, f"--definitions={definitions}", *words], timeout_s=_WRITE_S)
    if done.rc:
        said = " ".join(done.stderr.split())[-300:]
        raise Refused(WRITE, f"systemd-sysupdate: {said}", "dmesg; lsblk; df /boot")


def _check_good(facts: Facts, root: Path) -> None:
    """Refuse to overwrite the only version that is known to be good."""
    entry = entry_of(facts.stem, root)
    if entry is None or entry.left is not None:
        fact = f"{facts.version}, which runs, is on trial itself"
        raise Refused(BUSY, fact, "wait until it is good: imgnode status")


def _forget_others(facts: Facts, root: Path) -> None:
    """Remove all entries but that of the running version: the other slot is about to be written.

    So no entry points at half a slot, and what a power cut has left takes no room on the ESP.
    """
    keep = entry_of(facts.stem, root)
    for path in sorted((root / ENTRIES).iterdir()):
        ours = path.name.startswith((f"{facts.image_id}_", *_LEFT_OVER))
        if ours and (keep is None or path != keep.path):
            path.unlink()
    _flush_entries(root)


def _forget_entry(stem: str, root: Path) -> None:
    """Remove the boot entry of a version whose slot does not hold it."""
    while entry := entry_of(stem, root):
        entry.path.unlink()
    _flush_entries(root)


def _flush_entries(root: Path) -> None:
    process.run(["sync", "--file-system", str(root / ENTRIES)], timeout_s=_WRITE_S)


def _definitions(staged: Staged, facts: Facts, root: Path) -> Path:
    """Write sysupdate.d(5) for this one update."""
    folder = root / _DEFINITIONS
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    values = {"image_id": facts.image_id, "version": facts.version, "folder": staged.folder}
    for name, kind, type_ in (("10-verity", "verity", "root-verity"), ("20-root", "root", "root")):
        text = _PARTITION.format(**values, kind=kind, type=type_)
        (folder / f"{name}.conf").write_text(text)
    (folder / "30-uki.conf").write_text(_ENTRY.format(**values))
    return folder


def _check_written(staged: Staged, facts: Facts, root: Path) -> None:
    """Read back what the slot holds; without it the boot entry goes. Raises Refused."""
    stem = f"{facts.image_id}_{staged.version}"
    slot, entry = other_slot(facts.stem, root), entry_of(stem, root)
    devices = {".root.raw": slot.root, ".verity.raw": slot.verity}
    for name, digest in staged.sha256.items():
        source = staged.folder / name
        ending = next((end for end in devices if name.endswith(end)), None)
        target = devices[ending] if ending else entry.path if entry else None
        if target is None or _start(target, source.stat().st_size) != digest:
            if entry:
                _forget_entry(stem, root)
            fact = f"{target or stem}: does not hold what was written to it"
            raise Refused(WRITE, fact, "the disk is failing: dmesg; smartctl")
    if slot.label != stem:
        raise Refused(WRITE, f"{slot.root}: is labelled {slot.label}, not {stem}")


def _start(path: Path, size: int) -> str:
    """Return the digest of the first bytes of a file or device, read from the disk itself."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        os.fsync(stream.fileno())
        os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        left = size
        while left and (chunk := stream.read(min(left, _CHUNK))):
            digest.update(chunk)
            left -= len(chunk)
    return digest.hexdigest() if not left else ""
