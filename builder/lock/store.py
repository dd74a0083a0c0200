"""Reads and writes lock files."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

from pydantic import ValidationError

from builder.core.errors import UserError
from builder.core.files import write_atomic
from builder.lock.only import check_only
from builder.lock.outside import outside_digest
from builder.lock.resolver import request_digest
from builder.model.lock import Lock
from builder.model.spec import Spec


def write_lock(path: Path, lock: Lock) -> None:
    """Write the lock as JSON with one stable order, in one step."""
    write_atomic(path, lock_text(lock))


def names_password(lock: Lock) -> bool:
    """Tell whether an archive's address holds credentials: such a lock is not handed on."""
    return any("@" in urlsplit(one.uri).netloc for one in lock.archives)


def lock_text(lock: Lock) -> str:
    """Return the lock as its file holds it."""
    return lock.model_dump_json(indent=1) + "\n"


def read_lock(path: Path, spec: Spec) -> Lock:
    """Return the lock in `path`, known to fit `spec`.

    For a spec without a container a lock with one fits too, less the container. Raises
    UserError when the file is damaged, was made for other packages, or names a package of
    an archive that may not give it.
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
    check_only(spec.site, lock.packages)
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
