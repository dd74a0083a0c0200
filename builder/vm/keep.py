"""Evidence of a failed test: console, QEMU's words, journal, and a picture of the boot."""

from __future__ import annotations

import shutil
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from builder.vm.errors import VmError
from builder.vm.process import Captured
from builder.vm.ssh import SSH_FAILED, Ssh

if TYPE_CHECKING:
    from collections.abc import Iterator

    from builder.vm.machine import Machine

_FETCH_S = 60.0
_WORDS = 300  # characters of an error that are worth repeating
_FETCHED = {
    "journal.txt": "sudo -n journalctl -b --no-pager || journalctl -b --no-pager",
    "boot.svg": "systemd-analyze plot",
}


@dataclass(frozen=True)
class Kept:
    """The files that were saved, and for each that was not, why."""

    files: tuple[Path, ...]
    missing: tuple[str, ...]

    def __str__(self) -> str:
        """Return one line for each file, and one for each that is missing."""
        lines = [f"kept {path}" for path in self.files]
        return "\n".join([*lines, *(f"not kept: {why}" for why in self.missing)])


def keep_evidence(machine: Machine, ssh: Ssh | None, folder: Path) -> Kept:
    """Save what explains a failure into `folder`, made if need be. Never raises VmError.

    `ssh` is None when the node was not expected to let anybody in.
    """
    folder.mkdir(parents=True, exist_ok=True)
    files: list[Path] = []
    missing: list[str] = []
    logs = {"serial.log": machine.paths.serial_log, "qemu.log": machine.paths.qemu_log}
    for name, source in logs.items():
        if source.exists():
            files.append(Path(shutil.copyfile(source, folder / name)))
        else:
            missing.append(f"{name} (never written)")
    reachable = ssh if machine.running() else None
    for name, command in _FETCHED.items():
        done = _ask(reachable, command)
        if done.rc == 0:
            (folder / name).write_text(done.stdout)
            files.append(folder / name)
            continue
        missing.append(f"{name} ({done.stderr.strip()[-_WORDS:]})")
        if done.rc == SSH_FAILED:
            reachable = None  # the next attempt would only wait again
    return Kept(tuple(files), tuple(missing))


@contextmanager
def keeping(machine: Machine, ssh: Ssh | None, folder: Path) -> Iterator[None]:
    """Keep evidence when the block fails, and say so in a note on the exception."""
    try:
        yield
    except Exception as error:
        error.add_note(str(keep_evidence(machine, ssh, folder)))
        raise


def _ask(ssh: Ssh | None, command: str) -> Captured:
    """Run `command` on the node; a node that cannot be asked counts as a failed SSH."""
    if ssh is None:
        return Captured(SSH_FAILED, "", "no SSH to the node")
    try:
        return ssh.run(command, timeout_s=_FETCH_S)
    except VmError as error:
        return Captured(SSH_FAILED, "", str(error))
