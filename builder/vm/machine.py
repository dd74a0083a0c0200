"""A virtual machine that runs: start, watch, reset, power off, clean up."""

from __future__ import annotations

import contextlib
import logging
import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Self

from builder.core.errors import UserError
from builder.vm.errors import VmError, VmExited, VmTimeout
from builder.vm.process import kill, spawn
from builder.vm.qemu import VmConfig, VmPaths, qemu_argv
from builder.vm.qmp import qmp
from builder.vm.serial import LogMatch, SerialLog, indent

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType

    from builder.core.process import Runner

_POLL_S = 0.1
_START_S = 15.0
_CONSOLE_S = 10.0
_SILENT_S = 120.0  # emulated firmware says something after a fifth of that
_log = logging.getLogger(__name__)


class Machine:
    """A QEMU process for as long as the `with` block lasts; its files go with it.

    `config` says what the machine is. The disk belongs to the caller and stays. Within
    the block the machine may be ended and started again: firmware variables, SSH port
    and serial log carry on.
    """

    def __init__(self, runner: Runner, config: VmConfig) -> None:
        self.config = config
        self.ports = {port: free_port() for port in config.open_ports}
        self.paths = VmPaths(Path())
        self.serial = SerialLog(Path())
        self._runner = runner
        self._child: subprocess.Popen[bytes] | None = None
        self._began = 0.0

    def __enter__(self) -> Self:
        """Make the work folder and start the machine. Raises UserError, VmError."""
        _require_files(self.config)
        # Not below the caller's folders: a unix socket's path has at most 107 bytes.
        self.paths = VmPaths(Path(tempfile.mkdtemp(prefix="imgbuild-vm-")))
        self.serial = SerialLog(self.paths.serial_log)
        try:
            shutil.copyfile(self.config.firmware.variables, self.paths.variables)
            self.start()
        except BaseException:
            self._clean_up()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End QEMU if it still runs and remove the work folder."""
        self._clean_up()

    def start(self) -> int:
        """Switch the machine on; return the log position where this boot begins.

        Raises VmError with QEMU's own words when it does not come up.
        """
        if self.running():
            raise VmError("the machine runs already")
        self.paths.qmp_socket.unlink(missing_ok=True)
        position = self.serial.position()
        argv = qemu_argv(self.config, self.paths, self.ports)
        self._began = time.monotonic()
        self._child = spawn(self._runner, argv, self.paths.qemu_log)
        self._wait_started()
        return position

    def running(self) -> bool:
        """Return whether QEMU runs (a machine that powered itself off does not)."""
        return self._child is not None and self._child.poll() is None

    def wait_for(self, pattern: str, timeout_s: float, *, since: int = 0) -> LogMatch:
        """Wait for a regular expression on the console after byte `since` of the log.

        Emulated firmware that hangs after a reset is switched off and on meanwhile. Raises
        VmTimeout or VmExited, both with the last lines of the console.
        """
        return self.serial.wait_for(pattern, timeout_s, since=since, alive=self._goes_on)

    def wait_exit(self, timeout_s: float) -> None:
        """Wait until the guest has powered itself off. Raises VmTimeout."""
        if self._child is None:
            return
        try:
            self._child.wait(timeout_s)
        except subprocess.TimeoutExpired:
            tail = indent(self.serial.tail())
            raise VmTimeout(f"the machine still runs after {timeout_s:g} s:\n{tail}") from None

    def send(self, text: str) -> None:
        """Type `text` on the serial console (a newline is Enter). Raises VmError."""
        try:
            with socket.socket(socket.AF_UNIX) as line:
                line.settimeout(_CONSOLE_S)
                line.connect(str(self.paths.serial_socket))
                line.sendall(text.replace("\n", "\r").encode())
                # Closing at once can drop what QEMU has not read; it ends after reading.
                line.shutdown(socket.SHUT_WR)
                while line.recv(4096):
                    pass
        except OSError as error:
            raise VmError(f"the serial console takes no input: {error}") from error

    def qmp(self, command: str, arguments: Mapping[str, object] | None = None) -> object:
        """Send one QMP command and return its answer. Raises VmError."""
        if not self.running():
            raise VmExited(f"{command}: QEMU is not running\n{indent(self.qemu_output())}")
        return qmp(self.paths.qmp_socket, command, arguments)

    def set_cable(self, *, plugged: bool) -> None:
        """Pull the network cable, or plug it in again. Raises VmError."""
        self.qmp("set_link", {"name": "net0", "up": plugged})

    def poweroff(self, timeout_s: float) -> None:
        """Press the power button (ACPI) and wait for the end. Raises VmTimeout."""
        self.qmp("system_powerdown")
        self.wait_exit(timeout_s)

    def reboot(self, timeout_s: float) -> int:
        """Power off cleanly and switch on again; return where the new boot's log begins."""
        self.poweroff(timeout_s)
        return self.start()

    def reset(self) -> int:
        """Press the reset button; return where the new boot's log begins."""
        position = self.serial.position()
        self.qmp("system_reset")
        return position

    def power_cut(self) -> None:
        """End QEMU with SIGKILL, as a pulled plug would; the disk stays as it is."""
        if self._child is not None:
            kill(self._child)

    def qemu_output(self) -> str:
        """Return what QEMU itself printed so far: warnings, and why it ended."""
        log = self.paths.qemu_log
        return log.read_text(errors="replace").strip() if log.exists() else ""

    def _goes_on(self) -> bool:
        """Tell whether QEMU runs, once it was started anew where its firmware hangs.

        Why it does: docs/decisions/emulation.md. A recorded machine is left as it is.
        """
        emulated = self.config.accel == "tcg" and self.config.write_log is None
        waited = time.monotonic() - self._began > _SILENT_S
        if emulated and waited and self.running() and self.serial.silent_since_reset(_SILENT_S):
            _log.warning("the firmware hangs after a reset: switching the machine off and on")
            self.power_cut()
            self.start()
        return self.running()

    def _wait_started(self) -> None:
        """Wait for QEMU's first answer: it opens its socket before it checks the rest."""
        deadline = time.monotonic() + _START_S
        while self.running() and time.monotonic() < deadline:
            if self.paths.qmp_socket.exists():
                with contextlib.suppress(VmError):
                    qmp(self.paths.qmp_socket, "query-status")
                    return
            time.sleep(_POLL_S)
        words = indent(self.qemu_output())
        if self.running():
            self.power_cut()
            raise VmTimeout(f"QEMU gave no answer in {_START_S:g} s\n{words}")
        raise VmError(f"QEMU did not start:\n{words}")

    def _clean_up(self) -> None:
        try:
            self.power_cut()
        finally:
            shutil.rmtree(self.paths.work, ignore_errors=True)


def free_port() -> int:
    """Return a TCP port of 127.0.0.1 that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _require_files(config: VmConfig) -> None:
    if not config.disk.is_file():
        raise UserError(f"{config.disk}: no such disk image", hint="run `imgbuild build` first")
    for path in (config.firmware.code, config.firmware.variables):
        if not path.is_file():
            raise UserError(f"{path}: UEFI firmware missing", hint="apt install ovmf")
