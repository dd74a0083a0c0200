"""Does a few things at a time, and ends them all when one fails."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from builder.core.context import Context

AT_A_TIME = 2
Item = TypeVar("Item")
Result = TypeVar("Result")


def together(
    context: Context, work: Callable[[Item], Result], items: Iterable[Item]
) -> list[Result]:
    """Return `work` of each item, in order, two at a time.

    Whatever the first failing one raises is raised, also by Ctrl-C: what the others run is
    ended, and nothing more is started by this command.
    """
    with ThreadPoolExecutor(AT_A_TIME) as pool:
        try:
            return list(pool.map(work, items))
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            context.runner.close()
            raise
