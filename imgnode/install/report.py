"""Tells the server how far an installation is: small JSON documents by POST, never in the way."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from http import HTTPStatus
from pathlib import Path

_TIMEOUT_S = 5
_EVERY_S = 2.0
_SAY_EVERY_S = 10.0
_LAST_S, _AGAIN_S = 120.0, 3.0
_DMI = Path("sys/class/dmi/id")


@dataclass(frozen=True)
class Identity:
    """What a machine can be known by; can be guessed, so it proves nothing."""

    serial: str
    uuid: str
    macs: tuple[str, ...]


def read_identity(root: Path = Path("/")) -> Identity:
    """Return the machine's serial number, UUID and network addresses; "" where there is none."""
    macs = {_line(path) for path in (root / "sys/class/net").glob("*/address")}
    dmi = root / _DMI
    known = tuple(sorted(mac for mac in macs if mac.strip("0:")))
    return Identity(_line(dmi / "product_serial"), _line(dmi / "product_uuid"), known)


@dataclass
class Reporter:
    """Posts to `address`, at most every two seconds within a phase; None: to nobody.

    A server that does not answer costs five seconds and nothing else.
    """

    address: str | None
    identity: Identity
    say: Callable[[str], None] = print
    version: str | None = None
    disk: str | None = None
    phase: str = "start"
    _done: int = 0
    _total: int = 0
    _last: float = field(default=0.0)
    _said: float = field(default=0.0)

    def begin(self, phase: str, total: int = 0) -> Callable[[int], None]:
        """Begin a phase of `total` bytes; the result takes each further piece."""
        self.phase, self._done, self._total = phase, 0, total
        self.say(phase)
        self._said = time.monotonic()
        self._post()

        def tell(count: int) -> None:
            self._done += count
            if time.monotonic() - self._last >= _EVERY_S:
                self._post()
            if time.monotonic() - self._said >= _SAY_EVERY_S:
                self._said = time.monotonic()
                self.say(f"{phase} {100 * self._done // max(self._total, 1)} %")

        return tell

    def note(self, text: str) -> None:
        """Say what is worth knowing, and no error; on the console alone."""
        self.say(text)

    def end(self, kind: str | None = None, text: str | None = None) -> None:
        """Say how it ended: well, or with an error of a kind.

        That it ended well is said until the server takes it, for two minutes: a machine that starts
        from the network first would be installed once more.
        """
        self.phase = "failed" if kind else "done"
        self.say(f"{self.phase}: {text}" if text else self.phase)
        until = time.monotonic() + _LAST_S
        while not self._post({"kind": kind, "text": text} if kind else None):
            if kind or time.monotonic() >= until:
                return
            time.sleep(_AGAIN_S)

    def shares(self) -> bool | None:
        """Say that neighbours may fetch from here; return whether some need it, None: unknown."""
        status = self._send(f"{self.address}/share", {"schema_version": 1})
        return None if status is None else status == HTTPStatus.ACCEPTED

    def _post(self, error: dict[str, str | None] | None = None) -> bool:
        """Post a report; False where it did not get there and may another time."""
        self._last = time.monotonic()
        if self.address is None:
            return True
        values = {
            "schema_version": 1,
            "node": asdict(self.identity),
            "phase": self.phase,
            "done": self._done,
            "total": self._total,
            "version": self.version,
            "disk": self.disk,
            "error": error,
        }
        return self._send(self.address, values) is not None

    def _send(self, address: str, values: dict[str, object]) -> int | None:
        """Post a document; return the status, None where nobody was there to answer."""
        request = urllib.request.Request(  # noqa: S310 - the order's pattern: http or https
            address,
            data=json.dumps(values).encode(),
            headers={"Content-Type": "application/json"},
            method="POST",
        )
        try:
            with urllib.request.urlopen(request, timeout=_TIMEOUT_S) as answer:  # noqa: S310
                return int(answer.status)
        except urllib.error.HTTPError as refused:
            self.say(f"progress cannot be reported: {refused}")
            return refused.code if refused.code < HTTPStatus.INTERNAL_SERVER_ERROR else None
        except (OSError, ValueError) as error:
            self.say(f"progress cannot be reported: {error}")
        return None


def _line(path: Path) -> str:
    try:
        return path.read_text(errors="replace").strip()
    except OSError:
        return ""
