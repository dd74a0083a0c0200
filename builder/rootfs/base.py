"""The first stage of the root file system: the locked packages, as Debian installs them."""

from __future__ import annotations

import shlex
from pathlib import Path

from builder.core.bootstrap import check_installed, local_repository, mmdebstrap_argv
from builder.core.cache import Stage
from builder.core.context import Context
from builder.core.errors import UserError
from builder.core.files import clamp_times
from builder.core.hashing import sha256_file
from builder.core.sandbox import Sandbox
from builder.model.lock import Lock

_FIRST_DYNAMIC, _LAST_DYNAMIC = 100, 59999


def build_base(context: Context, tools: Sandbox, lock: Lock) -> tuple[Path, str]:
    """Return the folder with all packages installed, and the stage's key.

    The folder is never changed afterwards: later stages lay an overlay over it.
    """
    users = context.project.image / "users.conf"
    inputs = {
        "packages": lock.digest_inputs("image"),
        "tools": lock.digest_inputs("tools"),
        "users": sha256_file(users),
        "epoch": lock.epoch,
    }
    stage = Stage("base", inputs, Path(__file__))
    result = context.cache.get(stage, lambda folder: _make(context, tools, lock, folder, users))
    return result / "tree", stage.key


def _make(context: Context, tools: Sandbox, lock: Lock, folder: Path, users: Path) -> None:
    packages = lock.tree("image")
    with context.cache.workspace("base-debs") as work:
        repository = work / "repository"
        local_repository(context.runner, context.cache.root, packages, repository)
        tree = folder / "tree"
        quoted = shlex.quote(str(users))
        hook = f'--essential-hook=systemd-sysusers --root="$1" {quoted}'
        tools.run(
            mmdebstrap_argv(repository, packages, tree, hooks=[hook]),
            write=[folder, work],
            read=[context.cache.root / "debs", users],
            env={"SOURCE_DATE_EPOCH": str(lock.epoch), "INITRD": "No"},
            privileged=True,
        )
    check_installed(context.runner, tree, packages)
    _check_users(tree, users)
    clamp_times(tree, lock.epoch)


def _check_users(tree: Path, users: Path) -> None:
    declared = {
        (line.split()[0], line.split()[1])
        for line in users.read_text().splitlines()
        if line and not line.startswith("#")
    }
    names = {name for _, name in declared} | {"nobody", "nogroup", "users"}
    for file in ("passwd", "group"):
        for line in (tree / "etc" / file).read_text().splitlines():
            name, _, number, *_ = line.split(":")
            if _FIRST_DYNAMIC <= int(number) <= _LAST_DYNAMIC and name not in names:
                raise UserError(
                    f"a package made {name} ({number}) in /etc/{file}, which has no fixed number",
                    hint=f"add it to {users}, so that files on /var keep their owner",
                )
