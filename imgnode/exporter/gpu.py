"""The GPUs: what the child that watches NVML said last.

NVML may hang in the kernel (imgnode/gpu/inventory.py), so this process never asks it itself. The
child writes a line for each look; when none comes, its values are not shown any more. One that does
not answer is killed; as long as it does not go, no other is started beside it.
"""

from __future__ import annotations

import json
import os
import select
import sys
import time

from imgnode.exporter.gpuvalues import as_text
from imgnode.process import Child, start

CHILD = (sys.executable, "-P", "-m", "imgnode.gpu", "watch")
EVERY_S = 10.0
SILENT_S = 45.0  # as long as imgnode/gpu/inventory.py waits
AGAIN_S = 30.0  # between two starts of the child
_READ = 1 << 16
_LINE = 1 << 20  # bytes: 64 GPUs need a tenth of it


class GpuCollector:
    """Follows the child; `text` is what it last said as metrics, "" for nothing good."""

    name = "gpu"

    def __init__(self) -> None:
        self.text, self.when = "", 0.0
        self._child: Child | None = None
        self._pipe = -1
        self._buffer = b""
        self._heard = self._started = 0.0

    def collect(self, until: float) -> None:
        """Listen until `until` (time.monotonic()); no fault of the child is raised."""
        while (now := time.monotonic()) < until:
            if self._child is None and not self._begin(now):
                time.sleep(max(0.0, min(until, self._started + AGAIN_S) - now))
                continue
            ready = select.select([self._pipe], [], [], min(until - now, SILENT_S))[0]
            if ready:
                self._hear()
            elif time.monotonic() - self._heard > SILENT_S:
                self._give_up()

    def close(self) -> None:
        """End the child; another thread may still listen to it."""
        if self._child is not None:
            self._child.kill()

    def _begin(self, now: float) -> bool:
        """Start the child, unless it was tried a moment ago."""
        if self._started and now < self._started + AGAIN_S:
            return False
        self._started = self._heard = now
        self._pipe, end = os.pipe()
        try:
            self._child = start([*CHILD, f"{EVERY_S:g}"], env={}, output=end)
        except OSError:
            os.close(self._pipe)
        finally:
            os.close(end)
        return self._child is not None

    def _hear(self) -> None:
        data = os.read(self._pipe, _READ)
        self._buffer += data
        *lines, self._buffer = self._buffer.split(b"\n")
        if not data or len(self._buffer) > _LINE:
            self._give_up()
            return
        for line in lines:
            self._heard = time.monotonic()
            self._take(line)

    def _take(self, line: bytes) -> None:
        try:
            told = json.loads(line)
            devices = told["devices"] if told["state"] == "ok" else None
            self.text = "" if devices is None else as_text(devices, told.get("driver"))
        except (ValueError, KeyError, TypeError):  # not what our child writes
            self.text = ""
        if self.text:
            self.when = time.time()

    def _give_up(self) -> None:
        """Show nothing, end the child, and wait for its end as long as it takes to be sure."""
        self.text, self._buffer = "", b""
        child = self._child
        if child is None:
            return
        child.kill()
        if child.wait(timeout_s=1) is None:
            self._heard = time.monotonic()  # it hangs in the kernel: look again later
            return
        os.close(self._pipe)
        self._child, self._pipe = None, -1
