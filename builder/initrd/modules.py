"""Copies kernel modules, with what they need, from the installed root into the initrd."""

from __future__ import annotations

import shutil
from pathlib import Path

from builder.core.context import Context
from builder.core.errors import UserError
from builder.core.events import Note
from builder.core.process import CommandError
from builder.core.sandbox import Sandbox
from builder.model.spec import InitrdRecipe

_INDEXES = ("modules.order", "modules.builtin", "modules.builtin.modinfo")


def kernel_release(root: Path) -> str:
    """Return the release (uname -r) of the one kernel installed in `root`.

    Raises UserError when there is none, or more than one.
    """
    releases = sorted(path.name for path in (root / "usr/lib/modules").glob("*"))
    if len(releases) != 1:
        raise UserError(
            f"the image has {len(releases)} kernels: {', '.join(releases) or 'none'}",
            hint="let exactly one package of the profile bring a kernel",
        )
    return releases[0]


def copy_modules(
    context: Context,
    tools: Sandbox,
    recipe: InitrdRecipe,
    base: Path,
    root: Path,
    source: str = "image/initrd.yaml",
) -> None:
    """Copy the recipe's modules and the modules these need, then index them (depmod(8)).

    `source` is where the recipe stands. Raises UserError when the kernel lacks a required
    one; optional ones are told.
    """
    release = kernel_release(base)
    files: set[str] = set()
    absent = []
    for module in (*recipe.modules, *recipe.optional_modules):
        needed = _needed(tools, base, release, module)
        if needed is not None:
            files |= needed
        elif module in recipe.modules:
            raise UserError(
                f"{source}: modules: kernel {release} has no module {module}",
                hint="choose another kernel.package in the profile, or make it optional",
            )
        else:
            absent.append(module)
    if absent:
        context.emit(Note("info", f"kernel {release} has no {', '.join(absent)}: left out"))
    there, target = base / "usr/lib/modules" / release, root / "usr/lib/modules" / release
    for name in (*_INDEXES, *sorted(files)):
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(there / name, target / name)
    tools.run(["depmod", "--basedir", root, release], write=[root])


def _needed(tools: Sandbox, base: Path, release: str, module: str) -> set[str] | None:
    """Return module files relative to the release's folder; None where there is no such one."""
    try:
        told = tools.run(
            ["modprobe", "-d", base, "-S", release, "--show-depends", module], read=[base]
        )
    except CommandError:
        return None
    marker = f"/modules/{release}/"
    return {
        line.partition(marker)[2].split()[0]  # options of the module may follow
        for line in told.stdout.splitlines()
        if line.startswith("insmod")
    }
