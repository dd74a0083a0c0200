"""Judges a disk after a power cut without booting it, by the tools that a node or a person has."""

from __future__ import annotations

import struct
import uuid
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from builder.core.errors import UserError
from builder.core.process import CommandError, Runner
from builder.model.artifacts import Manifest
from builder.vm.gpt import SECTOR, Partition, partitions
from tests.powercut.bootloader import boot_order
from tests.powercut.esp import Esp, read_esp
from tests.powercut.replay import Region
from tests.powercut.sparse import extract
from tests.powercut.var import check_var

COMMAND_S = 120
_ROOM = 1.1  # the next UKI may be a little larger
_MAX_TABLE = 1 << 20
SECOND_TABLE = "the first partition table is damaged, the second serves"
NO_ENTRY = "a partition has its name, but it has no entry"
# UEFI specification, GPT header: signature, size and CRC of the header; place, number, size and CRC
# of the entries.
_HEADER = struct.Struct("<8s4xII52xQIII")


@dataclass(frozen=True)
class Release:
    """A version that may be on the disk: its name, root hash, and the digest of its UKI."""

    version: str
    root_hash: str
    uki: str

    @property
    def root_uuid(self) -> str:
        """The UUID of the partition that holds its root (Discoverable Partitions Specification)."""
        return str(uuid.UUID(self.root_hash[:32]))

    @property
    def verity_uuid(self) -> str:
        """The UUID of the partition that holds its hash tree."""
        return str(uuid.UUID(self.root_hash[32:]))


def release_of(image: Path) -> Release:
    """Return what identifies a built image."""
    manifest = Manifest.model_validate_json((image / "manifest.json").read_text())
    uki = next(one.sha256 for one in manifest.artifacts if one.name == "uki.efi")
    return Release(manifest.version, manifest.root_hash, uki)


@dataclass(frozen=True)
class Verdict:
    """What a power cut left: the version that boots, what was lost, and what is worth telling."""

    boots: str | None
    losses: tuple[str, ...]
    notes: tuple[str, ...] = ()


class Known(Protocol):
    """Who knows what of a disk has changed since the last look."""

    def state(self, region: Region) -> int | None:
        """Return a number that stays while a region does; None when that is not known."""


class Judge:
    """Judges the disks of one replay; what did not change since the last one is not read again.

    `layers` are the digests of the layer files that may be in the store, by name.
    """

    def __init__(
        self,
        runner: Runner,
        replay: Known,
        releases: Sequence[Release],
        layers: Mapping[str, str],
        work: Path,
    ) -> None:
        self._runner = runner
        self._replay = replay
        self._releases = {one.uki: one for one in releases}
        self._layers = layers
        self._work = work
        self._known: dict[object, object] = {}

    def judge(self, disk: Path) -> Verdict:
        """Return the verdict on the disk as it is now, which is left as it is."""
        try:
            table = partitions(self._runner, disk)
            found = self._esp(disk, next(one for one in table if one.name == "esp"))
        except (UserError, StopIteration) as error:
            return Verdict(None, (f"table or ESP: {error}",))
        esp, checked = found
        losses = [f"ESP: {one}" for one in checked.faults]
        notes = list(esp.notes)
        if not first_table_is_good(disk):
            notes.append(SECOND_TABLE)
        notes += self._without_entry(table, esp)
        boots = self._boots(disk, table, esp, losses, notes)
        losses += self._next_update(checked, boots) if boots else []
        var = next((one for one in table if one.name == "var"), None)
        if var:
            losses += check_var(self._runner, disk, var, self._layers, self._work)
        return Verdict(boots, tuple(losses), tuple(notes))

    def _boots(
        self,
        disk: Path,
        table: Sequence[Partition],
        esp: Esp,
        losses: list[str],
        notes: list[str],
    ) -> str | None:
        """Return the version that comes up, in the end; add what would go wrong before."""
        for entry in boot_order(esp.files):
            release = next((r for r in self._releases.values() if r.version == entry.version), None)
            if release is None:
                losses.append(f"{entry.name}: the boot loader starts it, and it is not whole")
                return None
            wrong = self._slot(disk, table, release)
            if wrong is None:
                return release.version
            if not entry.left:
                losses.append(f"{entry.name}: {wrong}")
                return None
            notes.append(f"{entry.name}: {wrong}; back after {entry.left} tries")
        losses.append("nothing boots")
        return None

    def _without_entry(self, table: Sequence[Partition], esp: Esp) -> Iterator[str]:
        """Yield the versions that were half written, from their partitions' side."""
        entries = {one.version for one in esp.files}
        for release in self._releases.values():
            named = any(part.name.endswith(f"_{release.version}") for part in table)
            if named and release.version not in entries:
                yield f"{release.version}: {NO_ENTRY}"

    def _next_update(self, esp: Esp, boots: str) -> list[str]:
        """Return what keeps the node, once up, from taking the next version.

        At its boot the ESP was checked (fsck.vfat(8)); entries of the version that runs are made
        one, also one that has only its short name left (imgnode/gate/bless.py), and all others go;
        so do the names of the other slot's partitions (imgnode/update/write.py).
        """
        mine = [one for one in esp.files if one.version == boots]
        if not any(one.stem.endswith(f"_{boots}") or "~" in one.stem for one in mine):
            return [f"no entry of {boots} is left under its name once the ESP was checked"]
        room = esp.free + sum(one.bytes for one in esp.files if one is not mine[0])
        if room < mine[0].bytes * _ROOM:
            return [f"the ESP has no room for another UKI: {room} bytes"]
        return []

    def _slot(self, disk: Path, table: Sequence[Partition], release: Release) -> str | None:
        """Return what is wrong with the slot that a version's UKI opens (veritysetup(8))."""
        places = {one.uuid: one for one in table}
        root, tree = places.get(release.root_uuid), places.get(release.verity_uuid)
        if root is None or tree is None:
            return "no partitions with the UUIDs of its root hash"
        states = [self._replay.state(Region(one.offset, one.size)) for one in (root, tree)]
        key = (release.root_hash, root.offset, *states)
        if None in states or key not in self._known:
            files = [self._work / "root.part", self._work / "verity.part"]
            for part, file in zip((root, tree), files, strict=True):
                extract(disk, part, file)
            try:
                argv: list[str | Path] = ["veritysetup", "verify", *files, release.root_hash]
                self._runner.run(argv, timeout_s=COMMAND_S)
                said = None
            except CommandError as error:
                said = f"its slot is damaged: {' '.join(error.output.split())[-100:]}"
            self._known[key] = said
        return self._known[key]  # type: ignore[return-value]

    def _esp(self, disk: Path, part: Partition) -> tuple[Esp, Esp]:
        """Return the ESP as the firmware sees it, and as it is once a boot has checked it."""
        state = self._replay.state(Region(part.offset, part.size))
        key = ("esp", state)
        if state is None or key not in self._known:
            file, copies = self._work / "esp.part", self._work / "ukis"
            extract(disk, part, file)
            versions = {digest: one.version for digest, one in self._releases.items()}
            before = read_esp(self._runner, file, versions, copies)
            self._runner.run(["fsck.vfat", "-a", file], ok=(0, 1), timeout_s=COMMAND_S)
            self._known[key] = before, read_esp(self._runner, file, versions, copies)
        return self._known[key]  # type: ignore[return-value]


def first_table_is_good(disk: Path) -> bool:
    """Tell whether the first GPT is as its checksums say; sfdisk(8) takes the second by itself."""
    with disk.open("rb") as stream:
        stream.seek(SECTOR)
        header = stream.read(SECTOR)
        magic, size, said, place, count, width, entries = _HEADER.unpack_from(header)
        if magic != b"EFI PART" or not _HEADER.size <= size <= SECTOR:
            return False
        stream.seek(place * SECTOR)
        table = stream.read(count * width) if count * width < _MAX_TABLE else b""
    blank = header[:16] + bytes(4) + header[20:size]
    return bool(zlib.crc32(blank) == said and zlib.crc32(table) == entries)
