"""Certificates: the files that the node's own TLS servers are told to use, and when they end."""

from __future__ import annotations

import calendar
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from imgnode.health.contract import Finding, Level
from imgnode.process import run

NAME = "certificates"
# Prometheus' exporter-toolkit, docs/web-configuration.md: tls_server_config.
_CONFIGS = ("etc/imgnode/*.y*ml", "run/imgnode/*.y*ml", "etc/prometheus/*.y*ml")
_FILES = re.compile(r"^\s*(?:cert_file|client_ca_file):\s*[\"']?([^\s\"'#]+)", re.MULTILINE)
_SOON_S = 14 * 86400.0
_ASK_S = 20
_FORMAT = "%b %d %H:%M:%S %Y GMT"
_HINT = "put a new one in its place (write_files in the seed), then restart what uses it"


def ends_at(path: Path) -> float:
    """Return when a certificate ends, in seconds since 1970. Raises OSError or ValueError."""
    words = ["openssl", "x509", "-noout", "-enddate", "-in", str(path)]
    told = run(words, timeout_s=_ASK_S)
    if told.rc:
        raise ValueError((told.stderr.strip().splitlines() or ["openssl failed"])[0])
    text = " ".join(told.stdout.strip().removeprefix("notAfter=").split())
    return float(calendar.timegm(time.strptime(text, _FORMAT)))


@dataclass(frozen=True)
class CertificatesCheck:
    """Whether the certificates that the node shows are there and last."""

    root: Path = Path("/")
    ends: Callable[[Path], float] = ends_at
    wall: Callable[[], float] = time.time
    name: str = NAME
    every_s: float = 3600.0

    def supported(self) -> bool:
        """Files may come with the seed at any time."""
        return True

    def look(self, now: float) -> list[Finding]:  # noqa: ARG002 - certificates go by the calendar
        """Look once."""
        return [one for path in sorted(self._named()) for one in self._judge(path)]

    def _named(self) -> set[Path]:
        """Return the files that configs name; a relative one lies beside its config."""
        found: set[Path] = set()
        for config in (path for glob in _CONFIGS for path in self.root.glob(glob)):
            for name in _FILES.findall(config.read_text(errors="replace")):
                where = Path(name)
                inside = self.root / where.relative_to("/") if where.is_absolute() else None
                found.add(inside or config.parent / where)
        return found

    def _judge(self, path: Path) -> Iterator[Finding]:
        shown = f"/{path.relative_to(self.root)}"
        try:
            left = self.ends(path) - self.wall()
        except (OSError, ValueError) as error:
            fact = f"{shown} cannot be read: {error}"
            yield Finding(NAME, "unreadable", Level.WARNING, fact, _HINT)
            return
        figures: dict[str, str | float] = {"file": shown, "seconds_left": round(left)}
        if left <= 0:
            fact = f"{shown} has ended"
            yield Finding(NAME, "expired", Level.FAILED, fact, _HINT, evidence=figures)
        elif left < _SOON_S:
            fact = f"{shown} ends in {left / 86400:.0f} days"
            yield Finding(NAME, "expiry", Level.WARNING, fact, _HINT, evidence=figures)
