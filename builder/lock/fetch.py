"""Brings the locked packages into the cache, each checked against its digest."""

from __future__ import annotations

from pathlib import Path

from builder.core.bootstrap import deb_path
from builder.core.context import Context
from builder.core.errors import UserError
from builder.core.events import Note
from builder.core.hashing import sha256_file
from builder.lock.aptenv import AptEnv, prepare
from builder.model.lock import Lock, LockedPackage
from builder.model.spec import Spec

_BATCH = 100


def fetch(context: Context, spec: Spec, lock: Lock) -> None:
    """Fetch every package of the lock that the cache does not hold.

    Afterwards `deb_path` names a file with the locked digest for each. Raises UserError
    when one cannot be had or has another digest.
    """
    missing = [p for p in lock.packages if not deb_path(context.cache.root, p).is_file()]
    if not missing:
        return
    size = sum(package.size for package in missing) / 1e6
    context.emit(Note("info", f"fetching {len(missing)} packages, {size:.0f} MB"))
    with context.cache.workspace("fetch") as work:
        apt = prepare(context.runner, spec.site, context.project.sites, work / "apt")
        for start in range(0, len(missing), _BATCH):
            _fetch_batch(context, apt, missing[start : start + _BATCH], work)


def _fetch_batch(context: Context, apt: AptEnv, batch: list[LockedPackage], work: Path) -> None:
    words: list[str] = []
    for package in batch:
        address = f"{apt.bases[package.archive]}/{package.path}"
        words += [address, str(work / package.sha256), f"SHA256:{package.sha256}"]
    try:
        apt.run("/usr/lib/apt/apt-helper", "download-file", *words)
    except UserError as error:
        raise UserError(
            f"packages of the lock cannot be fetched:\n{error.what}",
            hint="where the mirror has dropped or changed them, lock anew: "
            "imgbuild lock --profile PROFILE",
        ) from None
    for package in batch:
        _keep(context, package, work / package.sha256)


def _keep(context: Context, package: LockedPackage, fetched: Path) -> None:
    actual = sha256_file(fetched)
    if actual != package.sha256:
        raise UserError(
            f"{package.file_name}: SHA-256 is {actual}, the lock says {package.sha256}",
            hint="the mirror serves another file under this name: do not build from it",
        )
    final = deb_path(context.cache.root, package)
    final.parent.mkdir(parents=True, exist_ok=True)
    fetched.replace(final)
