"""The options that say how much may be changed at once."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from typing import Any

import click

from builder.core.errors import UserError
from builder.fleet.job import Limits
from builder.fleet.waves import size

_VERSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9.-]{0,35}")  # as channels name them
_DEFAULT = Limits()
_OPTIONS = (
    click.option(
        "--waves",
        default=",".join(_DEFAULT.waves),
        show_default=True,
        help="sizes of the waves after the canary, the last one again and again",
    ),
    click.option("--by-rack", is_flag=True, help="nodes of one rack at a time"),
    click.option(
        "--min-replicas",
        type=click.IntRange(min=0),
        default=_DEFAULT.min_replicas,
        show_default=True,
        help="nodes of each model that must go on serving",
    ),
    click.option(
        "--max-failed",
        type=click.FloatRange(0, 100),
        default=_DEFAULT.max_failed_percent,
        show_default=True,
        help="percent of the nodes taken; more halt it, and so does the canary",
    ),
    click.option(
        "--soak",
        type=click.FloatRange(min=0),
        default=_DEFAULT.soak_s,
        show_default=True,
        help="seconds for which the canary is looked at before the others",
    ),
)


def check_version(version: str) -> None:
    """Raise UserError for what can be no version."""
    if not _VERSION.fullmatch(version):
        raise UserError(f"{version}: is no version", hint="such as 20261122-9725b745")


def waves(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options, and hand them over as `limits`."""

    @functools.wraps(function)
    def inner(
        waves: str,
        by_rack: bool,
        min_replicas: int,
        max_failed: float,
        soak: float,
        **rest: Any,  # noqa: ANN401 - the command's own
    ) -> Any:  # noqa: ANN401 - whatever the command returns
        shares = tuple(one.strip() for one in waves.split(",") if one.strip())
        if not shares:
            raise UserError("--waves: names no size", hint="such as 10%,50%")
        for one in shares:
            size(one, 1)
        limits = Limits(
            waves=shares,
            by_rack=by_rack,
            min_replicas=min_replicas,
            max_failed_percent=max_failed,
            soak_s=soak,
        )
        return function(limits=limits, **rest)

    made: Callable[..., Any] = inner
    for option in _OPTIONS:
        made = option(made)
    return made
