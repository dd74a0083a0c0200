"""Byte-compiles a tree's Python by the container's own interpreter.

Sources are never looked at again (unchecked hashes): the root is read-only, and thousands
of imports without compiled code are hopeless on a slow processor.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from builder.containers.threads import AT_A_TIME, together
from builder.core.context import Context

# What is marshalled depends on what the process has compiled before (reference counts): each
# worker takes a fixed share, in a fixed order, and no site (-S) imports any of it before.
# Files that are no valid Python stay as they are.
_COMPILE = """
import compileall, pathlib, py_compile, sys
worker, workers, *folders = sys.argv[1:]
found = sorted(p for folder in folders for p in pathlib.Path(folder).rglob("*.py") if p.is_file())
for path in found[int(worker)::int(workers)]:
    compileall.compile_file(path, force=True, quiet=2,
        invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH)
"""


def compile_all(context: Context, root: Path, layer: Path, folders: Sequence[str]) -> None:
    """Compile all sources of `layer` below `folders`, named as the container sees them.

    `root` is the container's Debian; `layer` is laid over its /usr/local unless it is the
    same. Nothing else can be written, and there is no network.
    """
    words: list[str | Path] = ["bwrap", "--die-with-parent", "--unshare-pid", "--unshare-net"]
    words += ["--unshare-ipc", "--bind" if layer == root else "--ro-bind", root, "/"]
    if layer != root:
        words += ["--bind", layer / "usr/local", "/usr/local"]
    words += ["--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp"]  # noqa: S108 - inside
    words += ["--", "/usr/bin/python3", "-PsSB", "-c", _COMPILE]
    env = {"PYTHONHASHSEED": "0", "PYTHONWARNINGS": "ignore"}

    def share(worker: int) -> None:
        argv = [*words, str(worker), str(AT_A_TIME), *folders]
        context.runner.run(argv, env=env, called="the container's python3")

    together(context, share, range(AT_A_TIME))
