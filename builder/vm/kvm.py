"""Whether KVM really runs our firmware; that /dev/kvm exists proves nothing.

Para-virtual and nested hosts may offer a /dev/kvm on which a tiny boot sector runs and
the UEFI firmware dies ("KVM internal error") or hangs. So the probe boots the firmware
every node boots with until its boot manager speaks.
"""

from __future__ import annotations

import shutil
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from builder.core.errors import UserError
from builder.vm.process import kill, spawn
from builder.vm.qemu import PROGRAM, Firmware, accel_arguments, firmware_arguments
from builder.vm.serial import SerialLog

if TYPE_CHECKING:
    import subprocess

    from builder.core.process import Runner

_BOUND_S = 8.0
_POLL_S = 0.05
_ALIVE = r"BdsDxe: |UEFI Interactive Shell"
_BROKEN = ("KVM internal error", "KVM: entry failed", "Assertion")


@dataclass(frozen=True)
class KvmResult:
    """Whether `-accel kvm` works, and in one line why (or why not)."""

    usable: bool
    why: str


_lock = threading.Lock()
_known: list[KvmResult] = []


def probe_kvm(runner: Runner, scratch: Path) -> KvmResult:
    """Boot the firmware under KVM, at most 8 seconds, and say how that went.

    `scratch` is a folder for a few temporary files. The first answer is kept for the
    life of the process. Raises UserError when QEMU or the firmware is not installed.
    """
    with _lock:
        if not _known:
            _known.append(_probe(runner, scratch, Firmware()))
        return _known[0]


def _probe(runner: Runner, scratch: Path, firmware: Firmware) -> KvmResult:
    if not firmware.code.is_file() or shutil.which(PROGRAM) is None:
        raise UserError(
            "QEMU or its UEFI firmware is missing", hint="apt install qemu-system-x86 ovmf"
        )
    scratch.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="kvm-probe-", dir=scratch) as folder:
        work = Path(folder)
        shutil.copyfile(firmware.variables, work / "vars.fd")
        child = spawn(runner, probe_argv(work, firmware), work / "qemu.log")
        try:
            return _watch(child, SerialLog(work / "serial.log"), work / "qemu.log")
        finally:
            kill(child)


def probe_argv(work: Path, firmware: Firmware) -> list[str]:
    """Return the command of the probe; it writes `serial.log` and `vars.fd` in `work`."""
    return [
        *(PROGRAM, "-no-user-config", "-nodefaults", "-display", "none"),
        *("-machine", "q35,smm=off,vmport=off", "-m", "256", "-smp", "2"),
        *accel_arguments("kvm"),
        *firmware_arguments(firmware.code, work / "vars.fd"),
        *("-serial", f"file:{work / 'serial.log'}"),
    ]


def _watch(child: subprocess.Popen[bytes], serial: SerialLog, log: Path) -> KvmResult:
    started = time.monotonic()
    while (passed := time.monotonic() - started) < _BOUND_S:
        ended = child.poll() is not None
        words = log.read_text(errors="replace")
        if ended or any(sign in words for sign in _BROKEN):
            return KvmResult(usable=False, why=reason(words))
        if serial.find(_ALIVE):
            return KvmResult(usable=True, why=f"firmware came up under KVM in {passed:.1f} s")
        time.sleep(_POLL_S)
    return KvmResult(usable=False, why=f"firmware hung under KVM for {_BOUND_S:g} s")


def reason(words: str) -> str:
    """Return the telling line of what QEMU printed before it failed."""
    lines = [line.strip() for line in words.splitlines() if line.strip()]
    telling = [line for line in lines if any(sign in line for sign in _BROKEN)]
    others = [line for line in lines if "warning:" not in line]
    line = (telling or others or lines or ["QEMU ended without a word"])[0]
    return line.removeprefix(f"{PROGRAM}: ")
