"""Cuts of an installation: what each left, and what the next run of the installer makes of it.

Both runs are the installer's own code on the host, with a plain file as the disk; systemd-repart
comes from the tools tree. Every file system on it is a real one.
"""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from builder.core.errors import UserError
from builder.core.files import copy_sparse
from builder.core.process import CommandError, Runner
from builder.core.sandbox import Sandbox
from builder.vm.gpt import find_partition, partitions
from builder.vm.qemu import logged_disk
from imgnode import process
from imgnode.install import run
from imgnode.install.disks import Disk
from imgnode.install.order import Order
from imgnode.install.report import Identity, Reporter
from imgnode.update.refused import Refused
from tests.powercut.cuts import Cut, choose
from tests.powercut.esp import read_esp
from tests.powercut.judge import Judge, Release
from tests.powercut.recording import Recording, decides
from tests.powercut.replay import Region, Replay
from tests.powercut.sparse import extract
from tests.powercut.writelog import WriteLog

_PLACE = Path("usr/lib/imgnode")
_START_S = 30.0
_genuine = process.run


@dataclass(frozen=True)
class Left:
    """What a cut left: `boots` at once or not; `losses` then, or after the next run."""

    cut: Cut
    boots: bool
    losses: tuple[str, ...]
    seconds: float


@dataclass(frozen=True)
class Installs:
    """A recorded installation of `release` by `order`, on a disk that ended as `finished`.

    `root` has the installer's keyring and boot loader.
    """

    runner: Runner
    recording: Recording
    finished: Path
    release: Release
    order: Order
    root: Path
    tools: Path
    work: Path

    def cuts(self, points: int, seed: int) -> list[Cut]:
        """Return about as many cuts as `points`, at least one for each phase."""
        log = WriteLog(self.recording.log)
        phases = self.recording.phases(log)
        phases = {name: span for name, span in phases.items() if span}
        each = -(-points // len(phases))
        esp = find_partition(self.runner, self.finished, "esp")
        size, place = self.finished.stat().st_size, (esp.offset, esp.size)
        wanted = dict.fromkeys(phases, each)
        return choose(log.entries, phases, wanted, lambda one: decides(one, size, place), seed)

    def record(self, disk: Path) -> None:
        """Install onto an empty disk while each of its writes is logged, phase by phase."""
        with exported(disk, self.recording.log, self.work / "exported") as file:
            self._install(file, self._mark)
        self.recording.mark("end")

    def judge(self, cuts: Sequence[Cut]) -> Iterator[Left]:
        """Yield what each cut left, and what the next run made of it."""
        disk = self.work / "replayed.raw"
        copy_sparse(self.runner, self.recording.before, disk)
        parts = partitions(self.runner, self.finished)
        replay = Replay(
            WriteLog(self.recording.log), disk, [Region(one.offset, one.size) for one in parts]
        )
        for cut in cuts:
            with replay.cut(cut) as left:
                copy = self.work / "copy.raw"
                copy_sparse(self.runner, left, copy)
                yield self._one(cut, copy)
                copy.unlink()

    def _mark(self, said: str) -> None:
        """Begin a phase when one is told; what has more words tells how far it is."""
        if " " not in said:
            self.recording.mark(said)

    def _one(self, cut: Cut, disk: Path) -> Left:
        began = time.monotonic()
        boots = self._has_entry(disk)
        losses = self._losses(disk) if boots else []
        losses = [f"boots, but {one}" for one in losses]
        try:
            self._install(disk)
        except Refused as error:
            losses.append(f"the next run is refused: {error}")
        else:
            losses += [f"after the next run: {one}" for one in self._losses(disk)]
        return Left(cut, boots, tuple(losses), time.monotonic() - began)

    def _has_entry(self, disk: Path) -> bool:
        """Tell whether the boot loader finds anything to start."""
        try:
            esp = self.work / "esp.part"
            extract(disk, find_partition(self.runner, disk, "esp"), esp)
            found = read_esp(self.runner, esp, {}, self.work / "ukis").files
        except (UserError, CommandError):
            return False
        return any(one.name.endswith(".efi") for one in found)

    def _losses(self, disk: Path) -> list[str]:
        """Return what is wrong with a disk that must boot (a judge of its own: nothing is kept)."""
        verdict = Judge(self.runner, _Still(), [self.release], {}, self.work).judge(disk)
        wrong = [] if verdict.boots == self.release.version else [f"boots {verdict.boots}"]
        return [*verdict.losses, *wrong]

    def _install(self, disk: Path, say: Callable[[str], None] = lambda _: None) -> None:
        found = (Disk(disk, disk.stat().st_size),)
        reporter = Reporter(None, Identity("", "", ()), say)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(run, "list_disks", lambda: found)
            patch.setattr(process, "run", self._run)
            run.install(self.order, reporter, self.root)

    def _run(self, argv: Sequence[str], **options: Any) -> process.Finished:  # noqa: ANN401
        """Run systemd-repart of the tools tree, which needs no loop devices; others as they are."""
        if argv[0] != "systemd-repart":
            return _genuine(argv, **options)
        box = Sandbox(self.tools, self.runner)
        words = [*argv[:-1], "--offline=yes", argv[-1]]
        box.run(words, write=[Path(argv[-1]).parent, self.root])
        return process.Finished(0, "", "")


@contextmanager
def exported(disk: Path, log: Path, point: Path) -> Iterator[Path]:
    """Give a file that stands for `disk`, below QEMU's log of writes and flushes (FUSE)."""
    point.touch()
    log.touch()
    words = ["--blockdev", json.dumps(logged_disk(disk, log)), "--export"]
    words.append(f"type=fuse,id=disk,node-name=disk0,writable=on,mountpoint={point}")
    with subprocess.Popen(["qemu-storage-daemon", *words]) as daemon:
        try:
            until = time.monotonic() + _START_S
            while not point.stat().st_size and daemon.poll() is None and time.monotonic() < until:
                time.sleep(0.1)
            assert point.stat().st_size, "qemu-storage-daemon exports nothing"
            yield point
        finally:
            daemon.terminate()


class _Still:
    """A disk that no replay changes; everything on it is looked at."""

    def state(self, _: Region) -> None:
        """Know nothing."""


def installer_root(keyring: Path, loader: Path, root: Path) -> Path:
    """Make a root with the keyring and the boot loader of an installer."""
    esp = root / _PLACE / "esp/EFI"
    for name in ("BOOT/BOOTX64.EFI", "systemd/systemd-bootx64.efi"):
        (esp / name).parent.mkdir(parents=True)
        (esp / name).write_bytes(loader.read_bytes())
    (root / _PLACE / "release-keyring.gpg").write_bytes(keyring.read_bytes())
    return root


def told(rows: Sequence[Left]) -> list[str]:
    """Return a line for each phase, and one for each loss."""
    phases: Mapping[str, list[Left]] = {
        name: [row for row in rows if row.cut.phase == name]
        for name in dict.fromkeys(row.cut.phase for row in rows)
    }
    lines = [f"{'phase':<14} points  boots  losses  seconds each"]
    for name, mine in phases.items():
        boots, losses = sum(row.boots for row in mine), sum(bool(row.losses) for row in mine)
        each = sum(row.seconds for row in mine) / len(mine)
        lines.append(f"{name:<14} {len(mine):>6}  {boots:>5}  {losses:>6}  {each:.1f}")
    return [*lines, *(f"{row.cut}: {'; '.join(row.losses)}" for row in rows if row.losses)]
