"""The lowest layer: Debian packages of the lock, cleaned, with Python compiled."""

from __future__ import annotations

from pathlib import Path

from builder.containers.pack import LAYER_EPOCH, code
from builder.containers.python import compile_all
from builder.core.bootstrap import check_installed, local_repository, mmdebstrap_argv
from builder.core.cache import Stage
from builder.core.context import Context
from builder.core.files import clamp_times
from builder.core.sandbox import Sandbox
from builder.core.scrub import fix_shadow, remove_globs
from builder.model.container import ContainerRecipe
from builder.model.lock import Lock

_REMOVED = (
    "boot/*",
    "dev/*",
    "etc/*-",
    "etc/.pwd.lock",
    "etc/apt",
    "etc/cron.*",
    "etc/dpkg/dpkg.cfg.d/99mmdebstrap",
    "etc/init.d",
    "etc/rc?.d",
    "etc/systemd",
    "run/*",
    "tmp/*",
    "usr/lib/python3*/**/__pycache__",  # made anew: these know when their sources were made
    "usr/lib/systemd",
    "usr/lib/udev",
    "usr/share/bug",
    "usr/share/menu",
    "usr/share/pixmaps",
    "var/backups/*",
    "var/cache/*",
    "var/lib/apt",
    "var/lib/dpkg/*-old",
    "var/lib/dpkg/lock*",
    "var/lib/dpkg/triggers/Lock",
    "var/lib/pam",
    "var/lib/python",
    "var/lib/shells.state",
    "var/lib/systemd",
    "var/lib/ucf",
    "var/log/*",
    "var/tmp/*",
)
_PYTHON = ("/usr/lib/python3", "/usr/lib/python3.11")


def build_os(
    context: Context, tools: Sandbox, recipe: ContainerRecipe, lock: Lock
) -> tuple[Path, str]:
    """Return the folder with the container's Debian, and the stage's key.

    The folder is never changed afterwards.
    """
    inputs = {
        "packages": lock.digest_inputs("container"),
        "tools": lock.digest_inputs("tools"),
        "remove": recipe.remove,
        "code": code("python.py"),
    }
    stage = Stage("container-os", inputs, Path(__file__))
    result = context.cache.get(stage, lambda folder: _make(context, tools, recipe, lock, folder))
    return result / "tree", stage.key


def _make(
    context: Context, tools: Sandbox, recipe: ContainerRecipe, lock: Lock, folder: Path
) -> None:
    packages = lock.tree("container")
    tree = folder / "tree"
    with context.cache.workspace("container-debs") as work:
        repository = work / "repository"
        local_repository(context.runner, context.cache.root, packages, repository)
        tools.run(
            mmdebstrap_argv(repository, packages, tree),
            write=[folder, work],
            read=[context.cache.root / "debs"],
            env={"SOURCE_DATE_EPOCH": str(LAYER_EPOCH)},
            privileged=True,
        )
    check_installed(context.runner, tree, packages)
    clean(tree, recipe)
    if (tree / "usr/bin/python3").exists():
        compile_all(context, tree, tree, _PYTHON)
    clamp_times(tree, LAYER_EPOCH)


def clean(tree: Path, recipe: ContainerRecipe) -> None:
    """Remove what would differ between two builds or serves no container, and the recipe's."""
    remove_globs(tree, (*_REMOVED, *recipe.remove))
    if (tree / "etc/shadow").exists():
        fix_shadow(tree / "etc/shadow", LAYER_EPOCH)
    (tree / "etc/machine-id").write_text("")
    for name in ("hostname", "resolv.conf"):
        (tree / "etc" / name).unlink(missing_ok=True)  # Docker's own, for each container
