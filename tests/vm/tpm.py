"""An emulated TPM for a machine: swtpm(8), which keeps its state while the machine is off."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import threading
import time
from pathlib import Path
from typing import Self

_START_S = 10.0


class Tpm:
    """A TPM 2.0 for as long as the `with` block lasts, its state kept in a folder of its own.

    QEMU ends swtpm when it ends; a thread starts it anew, for the next time the machine is
    switched on.
    """

    def __init__(self) -> None:
        # A unix socket's path has at most 107 bytes.
        self._work = Path(tempfile.mkdtemp(prefix="imgbuild-tpm-"))
        self._child: subprocess.Popen[bytes] | None = None
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._serve, daemon=True)

    @property
    def words(self) -> tuple[str, ...]:
        """What QEMU must be told."""
        return (
            *("-chardev", f"socket,id=tpm0,path={self._socket}"),
            *("-tpmdev", "emulator,id=tpm0,chardev=tpm0", "-device", "tpm-crb,tpmdev=tpm0"),
        )

    @property
    def _socket(self) -> Path:
        return self._work / "control"

    def __enter__(self) -> Self:
        self._thread.start()
        self.ready()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        if self._child:
            self._child.kill()
        self._thread.join(_START_S)
        shutil.rmtree(self._work, ignore_errors=True)

    def ready(self) -> None:
        """Wait until a machine may be switched on."""
        deadline = time.monotonic() + _START_S
        while not (self._child and self._child.poll() is None and self._socket.exists()):
            assert time.monotonic() < deadline, "swtpm does not start"
            time.sleep(0.1)

    def _serve(self) -> None:
        state = ["--tpmstate", f"dir={self._work}", "--ctrl", f"type=unixio,path={self._socket}"]
        while not self._ended.is_set():
            self._socket.unlink(missing_ok=True)
            self._child = subprocess.Popen(["swtpm", "socket", "--tpm2", *state])
            self._child.wait()
