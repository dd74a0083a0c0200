"""How much processor the server's container has used: its cgroup, found by Docker's own answer."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from pathlib import Path

from imgnode import loopback
from imgnode.serve.names import NAME

SOCKET = Path("run/docker.sock")
_ASK_S = 5.0
_USED = re.compile(r"^usage_usec (\d+)$", re.MULTILINE)  # the kernel's cgroup-v2.rst, cpu.stat
_CGROUP = re.compile(r"^0::(/.+)$", re.MULTILINE)


@dataclass
class Container:
    """The server's container. Its cgroup is remembered: a Docker that hangs hides nothing."""

    root: Path = Path("/")
    _folder: Path | None = field(init=False, default=None)

    def cpu_s(self) -> float | None:
        """Return how many seconds of a processor it has used in all; None where that is unknown."""
        used = self._read()
        if used is None:
            self._folder = self._find()
            used = self._read()
        return used

    def _read(self) -> float | None:
        if self._folder is None:
            return None
        try:
            found = _USED.search((self._folder / "cpu.stat").read_text())
        except OSError:
            return None
        return int(found[1]) / 1e6 if found else None

    def _find(self) -> Path | None:
        """Return the cgroup of its first process (Docker's API, ContainerInspect)."""
        try:
            told = loopback.ask(self.root / SOCKET, f"/containers/{NAME}/json", limit_s=_ASK_S)
            pid = int(json.loads(told.body)["State"]["Pid"])
            lines = (self.root / f"proc/{pid}/cgroup").read_text()
        except (OSError, ValueError, LookupError, TypeError):
            return None
        found = _CGROUP.search(lines)
        return self.root / "sys/fs/cgroup" / found[1].lstrip("/") if found else None
