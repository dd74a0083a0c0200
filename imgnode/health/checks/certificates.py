"""Certificates: the files that the node's own TLS servers are told to use, and when they end."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from imgnode.health.contract import Finding, Level
from imgnode.process import Finished, run

NAME = "certificates"
# Prometheus' exporter-toolkit, docs/web-configuration.md: tls_server_config.
_CONFIGS = (
    "etc/credstore/*.y*ml",
    "run/credstore/*.y*ml",
    "run/credentials/@system/*.y*ml",
    "etc/imgnode/*.y*ml",
    "etc/prometheus/*.y*ml",
)
_FILES = re.compile(
    r"(?:^|[\s{,])(?:cert_file|client_ca_file):\s*[\"']?([^\s\"'#,}]+)", re.MULTILINE
)
_SOON_S = 14 * 86400
_ASK_S = 20
_END = "notAfter="
_HINT = "put a new one in its place (write_files in the seed), then restart what uses it"


def look_at(path: Path) -> tuple[Level, str]:
    """Return how long a certificate lasts, and what openssl says of it (openssl-x509(1)).

    Raises ValueError with openssl's words where it is none.
    """
    last = _openssl(path, f"-checkend={_SOON_S}")
    words = (last.stdout or last.stderr).strip().splitlines() or ["openssl says nothing"]
    if not words[0].startswith(_END):
        raise ValueError(words[0])
    ends = words[0].removeprefix(_END)
    if last.rc == 0:
        return Level.OK, ends
    return (Level.FAILED if _openssl(path, "-checkend=0").rc else Level.WARNING), ends


def _openssl(path: Path, check: str) -> Finished:
    words = ["openssl", "x509", "-noout", "-enddate", *check.split("="), "-in", str(path)]
    return run(words, timeout_s=_ASK_S)


@dataclass(frozen=True)
class CertificatesCheck:
    """Whether the certificates that the node shows are there and last."""

    root: Path = Path("/")
    see: Callable[[Path], tuple[Level, str]] = look_at
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
            level, ends = self.see(path)
        except (OSError, ValueError) as error:
            fact = f"{shown} cannot be read: {error}"
            yield Finding(NAME, "unreadable", Level.WARNING, fact, _HINT)
            return
        evidence = {"file": shown, "ends": ends}
        if level is Level.FAILED:
            fact = f"{shown} ended at {ends}"
            yield Finding(NAME, "expired", level, fact, _HINT, evidence=evidence)
        elif level is Level.WARNING:
            fact = f"{shown} ends soon, at {ends}"
            yield Finding(NAME, "expiry", level, fact, _HINT, evidence=evidence)
