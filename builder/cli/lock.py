"""`imgbuild lock`: from package names to exact versions and digests."""

from __future__ import annotations

from pathlib import Path

import click
from pydantic import ValidationError

from builder.cli import options
from builder.cli.session import session
from builder.compare.locks import lock_changes
from builder.containers.dockers import docker_warning
from builder.core.context import Context
from builder.core.errors import UserError
from builder.core.events import Note
from builder.driver.build import check_lock, warn_lacking
from builder.lock.age import check_no_older, lock_ages, mirror_ages, stale_suites
from builder.lock.resolver import resolve_lock
from builder.lock.store import read_lock, write_lock
from builder.model.lock import Lock
from builder.model.spec import Spec
from builder.resolve import resolve


@click.command("lock")
@options.profile
@options.site
@click.option("--check", is_flag=True, help="only tell whether the mirror has moved on (exit 1)")
@click.option("--allow-older", is_flag=True, help="take a mirror that is older than the lock")
@options.debug
def command(profile: str, site: str, check: bool, allow_older: bool, debug: bool) -> None:
    """Write config/locks/PROFILE.lock.json: every package, its version and SHA-256."""
    with session(debug=debug) as context:
        spec = resolve(context.project, profile, site)
        path = context.project.locks / f"{profile}.lock.json"
        if check:
            ages = mirror_ages(context.runner, spec, read_lock(path, spec))
            if not allow_older:
                check_no_older(ages)
            stale = stale_suites(ages)
            for line in stale:
                print(line)
            raise click.exceptions.Exit(1 if stale else 0)
        old = _old(path)
        lock = _resolved(context, spec)
        if old and not allow_older:
            check_no_older(lock_ages(old, lock))
        warn_lacking(context, spec)
        write_lock(path, lock)
        for line in lock_changes(old, lock):
            context.emit(Note("info", line))
        if warning := docker_warning(lock):
            context.emit(Note("warning", warning))
    print(path)


def ensure_lock(context: Context, spec: Spec, *, locked: bool) -> Lock:
    """Return the lock of the profile, made now where there is none and `locked` is false.

    Raises UserError when it is missing with `locked`, or does not fit the profile.
    """
    path = context.project.locks / f"{spec.profile_name}.lock.json"
    if path.exists():
        return read_lock(path, spec)
    if locked:
        raise UserError(
            f"{path}: there is no lock",
            hint=f"imgbuild lock --profile {spec.profile_name} --site {spec.site_name}",
        )
    context.emit(Note("info", f"no lock for {spec.profile_name} yet: locking now"))
    lock = _resolved(context, spec)
    write_lock(path, lock)
    return lock


def _resolved(context: Context, spec: Spec) -> Lock:
    """Return a new lock; raises UserError when its driver cannot serve the profile."""
    lock = resolve_lock(context, spec)
    check_lock(context, spec, lock)
    return lock


def _old(path: Path) -> Lock | None:
    """Return the lock that is replaced, whatever it was made for; None where none can be read."""
    try:
        return Lock.model_validate_json(path.read_bytes())
    except (OSError, ValidationError):
        return None
