"""Holds a lock to the least versions that a site asks for."""

from __future__ import annotations

from collections.abc import Iterable

from builder.core.errors import UserError
from builder.core.process import CommandError, Runner
from builder.model.lock import LockedPackage
from builder.model.site import Site

_LESS = "exit status 1"  # of dpkg --compare-versions, where the answer is no


def check_minimum(runner: Runner, site: Site, packages: Iterable[LockedPackage]) -> None:
    """Raise UserError for a locked package that is older than the site's `minimum` for it.

    Versions are compared as dpkg(1) does.
    """
    for package in packages:
        least = site.minimum.get(package.name)
        if least and not _reaches(runner, package.version, least):
            raise UserError(
                f"{package.name} {package.version} is older than {least}, "
                "the site's minimum for it",
                hint="bring the mirror up to date, or look for a pin that holds it back",
            )


def _reaches(runner: Runner, version: str, least: str) -> bool:
    try:
        runner.run(["dpkg", "--compare-versions", version, "ge", least])
    except CommandError as error:
        if error.status == _LESS:
            return False
        raise
    return True
