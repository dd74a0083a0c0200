"""Reading the serial log that QEMU writes while the machine runs."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from builder.vm.errors import VmExited, VmTimeout

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_POLL_S = 0.1
_RESET = "reboot: Restarting system"
_FIRMWARE = "BdsDxe: "  # what it begins its lines with, up to the boot loader
_LAST = 1000  # bytes
_LINE = re.compile(rb"[^\r\n]+")
_ESCAPES = re.compile(
    r"\x1b(?:\[[0-9;?=]*[A-Za-z]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\-_()][0-9A-B]?)"
)


@dataclass(frozen=True)
class LogMatch:
    """What matched: its text, the whole line, and the byte position where the line ends."""

    text: str
    line: str
    end: int


@dataclass(frozen=True)
class SerialLog:
    """The log in `path`; positions are bytes from its beginning, across restarts."""

    path: Path

    def position(self) -> int:
        """Return where the log ends now."""
        return self.path.stat().st_size if self.path.exists() else 0

    def read(self, since: int = 0) -> str:
        """Return the raw text from byte `since` on."""
        return self._bytes(since).decode(errors="replace")

    def tail(self, lines: int = 30, since: int = 0) -> str:
        """Return the last `lines` lines that hold text, without terminal escapes."""
        return "\n".join(plain_lines(self.read(since))[-lines:])

    def silent_since_reset(self, silent_s: float) -> bool:
        """Tell whether only firmware spoke after a kernel's reset, and nobody for so long."""
        if not self.path.exists() or time.time() - self.path.stat().st_mtime < silent_s:
            return False
        _, reset, after = self.read(max(0, self.position() - _LAST)).rpartition(_RESET)
        return bool(reset) and all(line.startswith(_FIRMWARE) for line in plain_lines(after))

    def find(self, pattern: str, since: int = 0) -> LogMatch | None:
        """Return the first line after byte `since` in which a regular expression matches.

        Lines are searched without terminal escapes, the last one also when unfinished.
        """
        for piece in _LINE.finditer(self._bytes(since)):
            line = _plain(piece.group().decode(errors="replace"))
            if found := re.search(pattern, line):
                return LogMatch(found.group(), line, since + piece.end())
        return None

    def wait_for(
        self, pattern: str, timeout_s: float, *, since: int = 0, alive: Callable[[], bool]
    ) -> LogMatch:
        """Wait until `pattern` appears after byte `since` and return the match.

        Raises VmTimeout after `timeout_s` seconds, VmExited when `alive` says no before.
        """
        deadline = time.monotonic() + timeout_s
        while True:
            running = alive()  # asked first: what was written before the end still counts
            if found := self.find(pattern, since):
                return found
            if not running:
                raise VmExited(self._lost(f"QEMU ended before {pattern!r} appeared"))
            if time.monotonic() >= deadline:
                raise VmTimeout(self._lost(f"no {pattern!r} on the console in {timeout_s:g} s"))
            time.sleep(_POLL_S)

    def _bytes(self, since: int) -> bytes:
        if not self.path.exists():
            return b""
        with self.path.open("rb") as stream:
            stream.seek(since)
            return stream.read()

    def _lost(self, what: str) -> str:
        return f"{what}; the console ends with:\n{indent(self.tail()) or '    (nothing)'}"


def plain_lines(text: str) -> list[str]:
    """Return the lines of a console text that hold something, escapes taken out."""
    lines = (_plain(line).rstrip() for line in re.split(r"[\r\n]+", text))
    return [line for line in lines if line]


def _plain(line: str) -> str:
    return _ESCAPES.sub("", line)


def indent(text: str) -> str:
    """Return `text` moved right by four spaces, for quoting below an error."""
    return "\n".join("    " + line for line in text.splitlines())
