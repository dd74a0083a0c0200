"""The tools tree: the programs that shape an image, made by mmdebstrap from the lock.

The same programs work on every build host, whatever that host has installed.
"""

from __future__ import annotations

from pathlib import Path

from builder.core.bootstrap import check_installed, local_repository, mmdebstrap_argv
from builder.core.cache import Stage
from builder.core.context import Context
from builder.core.sandbox import Sandbox, tied
from builder.model.lock import Lock


def build_tools(context: Context, lock: Lock) -> Sandbox:
    """Return a sandbox over the tools tree of the lock, building the tree where needed."""
    stage = Stage("tools", {"packages": lock.digest_inputs("tools")}, Path(__file__).parent)
    result = context.cache.get(stage, lambda folder: _make(context, lock, folder))
    return Sandbox(result / "tree", context.runner)


def _make(context: Context, lock: Lock, folder: Path) -> None:
    packages = lock.tree("tools")
    with context.cache.workspace("tools-debs") as work:
        repository = work / "repository"
        local_repository(context.runner, context.cache.root, packages, repository)
        tree = folder / "tree"
        argv = mmdebstrap_argv(repository, packages, tree)
        context.runner.run(
            tied(argv),
            env={
                "SOURCE_DATE_EPOCH": str(lock.epoch),
                "INITRD": "No",
                "TMPDIR": str(work),
            },
            called="mmdebstrap",
        )
        check_installed(context.runner, tree, packages)
