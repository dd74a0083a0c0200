"""`imgbuild lock`: from package names to exact versions and digests."""

from __future__ import annotations

import click

from builder.cli import options
from builder.cli.session import session
from builder.core.context import Context
from builder.core.errors import UserError
from builder.core.events import Note
from builder.lock.resolver import resolve_lock
from builder.lock.store import read_lock, stale_suites, write_lock
from builder.model.lock import Lock
from builder.model.spec import Spec
from builder.resolve import resolve


@click.command("lock")
@options.profile
@options.site
@click.option("--check", is_flag=True, help="only tell whether the mirror has moved on (exit 1)")
@options.debug
def command(profile: str, site: str, check: bool, debug: bool) -> None:
    """Write config/locks/PROFILE.lock.json: every package, its version and SHA-256."""
    with session(debug=debug) as context:
        spec = resolve(context.project, profile, site)
        path = context.project.locks / f"{profile}.lock.json"
        if check:
            stale = stale_suites(context.runner, spec, read_lock(path, spec))
            for line in stale:
                print(line)
            raise click.exceptions.Exit(1 if stale else 0)
        old = read_lock(path, spec) if path.exists() and _fits(context, spec) else None
        lock = resolve_lock(context, spec)
        write_lock(path, lock)
        for line in _changes(old, lock):
            context.emit(Note("info", line))
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
    lock = resolve_lock(context, spec)
    write_lock(path, lock)
    return lock


def _fits(context: Context, spec: Spec) -> bool:
    try:
        read_lock(context.project.locks / f"{spec.profile_name}.lock.json", spec)
    except UserError:
        return False
    return True


def _changes(old: Lock | None, new: Lock) -> list[str]:
    if old is None:
        return [f"{len(new.packages)} packages locked"]
    before = {f"{p.name}:{p.arch}": p.version for p in old.packages}
    after = {f"{p.name}:{p.arch}": p.version for p in new.packages}
    lines = [
        f"{name.partition(':')[0]}: {before.get(name, 'new')} → {after.get(name, 'gone')}"
        for name in sorted(before | after)
        if before.get(name) != after.get(name)
    ]
    return lines or ["nothing changed"]
