"""Reads and writes lock files, and tells whether one still fits."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import requests
from pydantic import ValidationError

from builder.core.errors import UserError
from builder.core.files import write_atomic
from builder.core.process import Runner
from builder.lock.mirror import base_addresses
from builder.lock.outside import outside_digest
from builder.lock.resolver import release_date, request_digest
from builder.model.lock import Lock
from builder.model.spec import Spec

_TIMEOUT_S = 5.0


def write_lock(path: Path, lock: Lock) -> None:
    """Write the lock as JSON with one stable order, in one step."""
    write_atomic(path, lock.model_dump_json(indent=1) + "\n")


def read_lock(path: Path, spec: Spec) -> Lock:
    """Return the lock in `path`, known to fit `spec`.

    For a spec without a container a lock with one fits too, less the container. Raises
    UserError when the file is damaged, or was made for other packages.
    """
    relock = f"imgbuild lock --profile {spec.profile_name} --site {spec.site_name}"
    try:
        lock = Lock.model_validate_json(path.read_text())
    except (ValidationError, UnicodeDecodeError) as error:
        first = str(error).splitlines()[:3]
        raise UserError(f"{path}: not a lock: {' '.join(first)}", hint=relock) from None
    if lock.request != request_digest(spec):
        raise UserError(
            f"{path}: the lock is for other packages, archives or pins than profile "
            f"{spec.profile_name} and site {spec.site_name} ask for",
            hint=f"lock anew: {relock}",
        )
    outside = outside_digest(spec)
    if outside is None:
        return lock.without_container()
    if lock.outside != outside:
        raise UserError(
            f"{path}: the lock is for another container or other model bundles than profile "
            f"{spec.profile_name} and site {spec.site_name} ask for",
            hint=f"lock anew: {relock}",
        )
    return lock


def stale_suites(runner: Runner, spec: Spec, lock: Lock) -> list[str]:
    """Return a sentence for each suite whose mirror is newer than the lock.

    A mirror that does not answer within some seconds says nothing.
    """
    proxies = {"http": spec.site.proxy.http or "", "https": spec.site.proxy.https or ""}
    told = []
    bases = base_addresses(runner, spec.site)
    for base, archive in zip(bases, lock.archives, strict=True):
        for suite in archive.suites:
            date = _mirror_date(f"{base}/dists/{suite.suite}/InRelease", proxies)
            if date is not None and date > suite.date:
                told.append(f"{suite.suite}: locked {_day(suite.date)}, mirror {_day(date)}")
    return told


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
