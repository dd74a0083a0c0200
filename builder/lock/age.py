"""Compares the dates of a lock's suites with those of the mirror, or of a newer lock.

A mirror, or a man in the middle, that shows an old but well signed state hides security
updates; where a lock knows a newer date, that is told (apt-secure(8) knows no such check).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

import requests

from builder.core.errors import UserError
from builder.core.process import Runner
from builder.lock.indexes import release_date, release_path
from builder.lock.mirror import base_addresses
from builder.model.lock import Lock
from builder.model.spec import Spec

_TIMEOUT_S = 5.0


@dataclass(frozen=True)
class Age:
    """A suite's date in a lock and now, in seconds since 1970."""

    uri: str
    suite: str
    locked: int
    now: int

    def __str__(self) -> str:
        """Return both dates, for people."""
        name = self.uri if self.suite == "/" else self.suite
        return f"{name}: locked {_day(self.locked)}, mirror {_day(self.now)}"


def mirror_ages(runner: Runner, spec: Spec, lock: Lock) -> list[Age]:
    """Ask the mirrors for the date of each suite of the lock.

    A mirror that does not answer within some seconds says nothing. The answers are not
    verified: good for telling, not for trusting.
    """
    proxies = {"http": spec.site.proxy.http or "", "https": spec.site.proxy.https or ""}
    ages = []
    bases = base_addresses(runner, spec.site)
    for base, archive in zip(bases, lock.archives, strict=True):
        for suite in archive.suites:
            date = _mirror_date(f"{base}/{release_path(suite.suite)}", proxies)
            if date is not None:
                ages.append(Age(archive.uri, suite.suite, suite.date, date))
    return ages


def stale_suites(ages: Iterable[Age]) -> list[str]:
    """Return a sentence for each suite whose mirror is newer than the lock."""
    return [str(age) for age in ages if age.now > age.locked]


def lock_ages(old: Lock, new: Lock) -> list[Age]:
    """Return the dates of each suite that two locks have from the same address."""
    dates = _dates(old)
    return [
        Age(*where, dates[where], date) for where, date in _dates(new).items() if where in dates
    ]


def check_no_older(ages: Iterable[Age]) -> None:
    """Raise UserError with both dates for the suites whose mirror is older than the lock."""
    older = [str(age) for age in ages if age.now < age.locked]
    if older:
        raise UserError(
            "\n".join(["the mirror is older than the lock:", *(f"    {line}" for line in older)]),
            hint="it is stale, or someone replays an old state: look into it; "
            "--allow-older takes it all the same",
        )


def _dates(lock: Lock) -> dict[tuple[str, str], int]:
    return {(a.uri, suite.suite): suite.date for a in lock.archives for suite in a.suites}


def _mirror_date(url: str, proxies: dict[str, str]) -> int | None:
    if not url.startswith("http"):
        return None
    try:
        answer = requests.get(url, timeout=_TIMEOUT_S, proxies=proxies, stream=True)
        answer.raise_for_status()
        head: bytes = next(answer.iter_content(4096), b"")
        answer.close()
        return release_date(head.decode(errors="replace"))
    except (requests.RequestException, UserError):
        return None


def _day(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M")
