"""Compiles the driver's kernel modules in a throw-away chroot, for the image's kernel.

The chroot holds exactly the lock's "driver" tree: headers, compiler, dkms(8), the modules'
sources. What is kept of it are the modules alone.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from builder.core.bootstrap import check_installed, local_repository, mmdebstrap_argv
from builder.core.cache import Stage
from builder.core.context import Context
from builder.core.errors import UserError
from builder.core.files import clamp_times
from builder.core.process import CommandError
from builder.core.sandbox import Sandbox
from builder.driver.locked import locked_release
from builder.model.lock import Lock

# Modules do not know when they were made: a new lock with the same packages needs no new ones.
EPOCH = 315532800
PLACE = "updates/dkms"  # Debian's dkms puts modules there, before the kernel's own
SIGN_FILE = "sign-file"
_DKMS = "var/lib/dkms"
_LOG_LINES = 12
# dkms(8) would build when it is installed, for the build host's kernel as well.
_NO_AUTOINSTALL = 'mkdir -p "$1/etc/dkms" && touch "$1/etc/dkms/no-autoinstall"'
_ENV = {
    "SOURCE_DATE_EPOCH": str(EPOCH),
    "KBUILD_BUILD_TIMESTAMP": f"@{EPOCH}",
    "KBUILD_BUILD_USER": "imgbuild",
    "KBUILD_BUILD_HOST": "imgbuild",
}


def build_modules(context: Context, tools: Sandbox, lock: Lock) -> tuple[Path, str]:
    """Return the folder with the modules, and the stage's key.

    It holds `modules/NAME.ko` without what only debuggers read, and the kernel's own
    `sign-file`. Packages of the lock must be in the cache. Raises UserError when the
    modules do not compile.
    """
    release = locked_release(lock)
    inputs = {
        "packages": lock.digest_inputs("driver"),
        "release": release,
        "tools": tools.digest("usr/bin/mmdebstrap"),
    }
    stage = Stage("driver", inputs, Path(__file__))
    made = context.cache.get(stage, lambda folder: _make(context, tools, lock, release, folder))
    return made, stage.key


def _make(context: Context, tools: Sandbox, lock: Lock, release: str, folder: Path) -> None:
    with context.cache.workspace("driver-chroot") as work:
        root = work / "root"
        _bootstrap(context, tools, lock, work, root)
        built = _compile(context, root, release)
        target = folder / "modules"
        target.mkdir()
        for module in sorted(built.glob("*.ko")):
            shutil.copyfile(module, target / module.name)
        _keep_sign_file(root, folder)
    clamp_times(folder, EPOCH)


def _bootstrap(context: Context, tools: Sandbox, lock: Lock, work: Path, root: Path) -> None:
    packages = lock.tree("driver")
    repository = work / "repository"
    local_repository(context.runner, context.cache.root, packages, repository)
    hook = f"--essential-hook={_NO_AUTOINSTALL}"
    tools.run(
        mmdebstrap_argv(repository, packages, root, hooks=[hook]),
        write=[work],
        read=[context.cache.root / "debs"],
        env={"SOURCE_DATE_EPOCH": str(EPOCH)},
        privileged=True,
    )
    check_installed(context.runner, root, packages)


def _compile(context: Context, root: Path, release: str) -> Path:
    """Run dkms build in the chroot; return the folder with the finished modules."""
    source = _source(root)
    name, _, version = source.name.rpartition("-")
    argv: list[str | Path] = ["bwrap", "--die-with-parent", "--unshare-pid", "--unshare-net"]
    argv += ["--unshare-ipc", "--bind", root, "/", "--proc", "/proc", "--dev", "/dev"]
    argv += ["--tmpfs", "/tmp", "--"]  # noqa: S108 - inside
    argv += ["dkms", "build", f"{name}/{version}", "-k", release, "-a", "x86_64"]
    tree = root / _DKMS / name / version
    try:
        context.runner.run(argv, env=_ENV, called="dkms")
    except CommandError as error:
        raise UserError(
            f"{name} {version} does not compile for kernel {release}\n{_log(tree, error)}",
            hint="the driver of this branch may not know the kernel yet: lock both anew, or "
            "pin an older kernel in the site",
        ) from None
    return tree / release / "x86_64" / "module"


def _source(root: Path) -> Path:
    sources = sorted(conf.parent for conf in (root / "usr/src").glob("*/dkms.conf"))
    if len(sources) != 1:
        names = ", ".join(source.name for source in sources) or "none"
        raise UserError(
            f"the driver's packages bring {len(sources)} sources of modules: {names}",
            hint="name one dkms package below modules in image/drivers/",
        )
    return sources[0]


def _log(tree: Path, error: CommandError) -> str:
    """Return what the compiler said last, which dkms only writes to a file."""
    log = tree / "build" / "make.log"
    lines = (log.read_text(errors="replace") if log.is_file() else error.output).splitlines()
    wrong = [line for line in lines if " error: " in line or " Error " in line] or lines
    return "\n".join(f"    {line}" for line in wrong[-_LOG_LINES:])


def _keep_sign_file(root: Path, folder: Path) -> None:
    """Keep the program that signs modules of this kernel: it lies with the headers."""
    found = sorted(root.glob(f"usr/lib/linux-kbuild-*/scripts/{SIGN_FILE}"))
    if found:
        shutil.copy2(found[-1], folder / SIGN_FILE)
