"""The clock: not before the image was made."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path

from imgnode.gate.attribution import CLOCK
from imgnode.gate.finding import EXTERNAL, OK, Finding, Look

_FACTS = Path("usr/lib/imgnode/image.json")
_SYNCHRONISED = Path("run/systemd/timesync/synchronized")  # systemd-timesyncd.service(8)


@dataclass(frozen=True)
class ClockCheck:
    """Whether the time is sane; that no time server has answered yet is only a note."""

    root: Path = Path("/")
    name: str = CLOCK
    limit_s: float = 0

    def look(self) -> Look:
        """Look once."""
        epoch = json.loads((self.root / _FACTS).read_text())["epoch"]
        now = time.time()
        if now < epoch:
            fact = f"the clock says {_day(now)}, the image is of {_day(epoch)}"
            hint = "timedatectl; the clock's battery, and the time servers of the site"
            return Look((Finding(CLOCK, EXTERNAL, fact, hint),))
        if not (self.root / _SYNCHRONISED).exists():
            return Look((Finding(CLOCK, OK, "no time server has answered yet"),))
        return Look()


def _day(seconds: float) -> str:
    return time.strftime("%Y-%m-%d", time.gmtime(seconds))
