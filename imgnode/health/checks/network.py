"""The network: a cable, and a way out."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from imgnode.health.contract import Finding, Level, Remedy

NAME = "network"
_UNIT = "systemd-networkd.service"
_NET = Path("sys/class/net")
_ROUTES, _ROUTES6 = Path("proc/net/route"), Path("proc/net/ipv6_route")
_UP, _REJECT = 0x1, 0x200  # the kernel's include/uapi/linux/route.h: RTF_UP, RTF_REJECT
_HINT = "networkctl status; ip route"


@dataclass
class NetworkCheck:
    """Whether the node can be reached. A node that never had a way out may be meant so."""

    root: Path = Path("/")
    name: str = NAME
    every_s: float = 10.0
    _had_route: bool = field(init=False, default=False)

    def supported(self) -> bool:
        """Tell whether there is an interface at all."""
        return bool(self._interfaces())

    def look(self, now: float) -> list[Finding]:  # noqa: ARG002 - nothing depends on time
        """Look once."""
        cables = [name for name in self._interfaces() if self._has_carrier(name)]
        if not cables:
            fact = f"no cable, or nothing at its other end: {', '.join(self._interfaces())}"
            hint = "the cable, the switch's port; networkctl status"
            return [Finding(NAME, "carrier", Level.FAILED, fact, hint)]
        if self._has_route():
            self._had_route = True
            return []
        level = Level.FAILED if self._had_route else Level.WARNING
        fact = f"no default route, though {', '.join(cables)} has a carrier"
        return [Finding(NAME, "route", level, fact, _HINT, Remedy.UNIT, _UNIT)]

    def _interfaces(self) -> list[str]:
        """Return the names of interfaces with hardware behind them."""
        folder = self.root / _NET
        found = sorted(folder.iterdir()) if folder.is_dir() else []
        return [one.name for one in found if (one / "device").exists()]

    def _has_carrier(self, name: str) -> bool:
        try:
            return (self.root / _NET / name / "carrier").read_text().strip() == "1"
        except OSError:  # an interface that is down has none (EINVAL)
            return False

    def _has_route(self) -> bool:
        return self._default(_ROUTES, destination=1, mask=7, flags=3) or self._default(
            _ROUTES6, destination=0, mask=1, flags=8
        )

    def _default(self, path: Path, *, destination: int, mask: int, flags: int) -> bool:
        """Tell whether a table has a route to everywhere, by the columns that say so."""
        try:
            lines = (self.root / path).read_text().splitlines()
        except OSError:
            return False
        for words in (line.split() for line in lines):
            if words[0] == "Iface":
                continue
            everywhere = int(words[destination], 16) == int(words[mask], 16) == 0
            if everywhere and int(words[flags], 16) & (_UP | _REJECT) == _UP:
                return True
        return False
