"""What every command needs: the project, a runner, the cache, and where events go."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from builder.cli.progress import sink
from builder.core.cache import Cache
from builder.core.context import Context
from builder.core.events import Note
from builder.core.paths import Project
from builder.core.process import Runner


@contextmanager
def session(
    *, debug: bool = False, as_json: bool = False, no_cache: bool = False, live: bool = True
) -> Iterator[Context]:
    """Give the context of one command; programs that still run are ended with it.

    `live` draws a list that changes; a command that hands over the terminal goes without.
    """
    project = Project.find()
    with sink(as_json=as_json, debug=debug, live=live) as emit:
        runner = Runner(debug=(lambda line: emit(Note("debug", line))) if debug else None)
        try:
            yield Context(project, runner, Cache(project.cache, emit, fresh=no_cache), emit)
        finally:
            runner.close()
