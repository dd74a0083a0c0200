"""Renders what the cpu profile becomes: partition definitions, overlays, kernel command line.

`python -m tests.golden.regenerate` rewrites the golden files; `git diff` then shows what a
change really does to the image.
"""

from __future__ import annotations

import os
import shutil
import stat
from pathlib import Path

from builder.core.cache import Cache
from builder.core.context import Context
from builder.core.events import Event
from builder.core.paths import Project
from builder.core.process import Runner
from builder.disk.gpt import _write_definitions
from builder.disk.uki import kernel_command_line
from builder.disk.var import VarImage
from builder.model.artifacts import Identity, RootImage
from builder.resolve import resolve
from builder.rootfs.overlay import lay_overlay

HERE = Path(__file__).parent
PROJECT = Project(HERE.parents[1])
PARTS = ("repart.d", "overlays", "overlays.txt", "cmdline.txt")
_IDENTITY = Identity(image_id="imgbuild-cpu", version="20260101-01234567", epoch=1767225600)
_ROOT = RootImage(
    erofs=Path("/work/root.erofs"),
    verity=Path("/work/root.verity"),
    root_hash="0123456789abcdef" * 2 + "fedcba9876543210" * 2,
    kernel=Path("/work/vmlinuz"),
    kernel_release="6.1.0-41-cloud-amd64",
)


def render(folder: Path) -> None:
    """Fill `folder` with the golden files: PARTS, and nothing else.

    `overlays/` has only the files that come from templates; `overlays.txt` lists all that
    the overlays bring, with modes.
    """
    spec = resolve(PROJECT, "cpu", "debian")
    context = Context(PROJECT, Runner(), Cache(folder / "unused", _quiet), _quiet)
    esp, var = Path("/work/esp"), VarImage(Path("/work/var.ext4"), 1 << 30)
    _write_definitions(context, spec, _IDENTITY, _ROOT, esp, var, folder / "repart.d")
    root, templates = folder / "overlays", []
    values = {"profile": spec.profile, "site": spec.site, "identity": _IDENTITY}
    for name in spec.profile.overlays:
        source = PROJECT.overlays / name
        lay_overlay(source, root, values)
        templates += [path.relative_to(source).with_suffix("") for path in source.rglob("*.j2")]
    (folder / "overlays.txt").write_text(_listing(root))
    for path in sorted(root.rglob("*"), reverse=True):
        if path.is_dir() and not path.is_symlink():
            if not any(path.iterdir()):
                path.rmdir()
        elif path.relative_to(root) not in templates:
            path.unlink()
    (folder / "cmdline.txt").write_text(kernel_command_line(spec, _ROOT) + "\n")


def _quiet(event: Event) -> None:
    """Take no notice: rendering tells nothing."""


def _listing(root: Path) -> str:
    lines = []
    for path in sorted(root.rglob("*")):
        info = path.lstat()
        target = f" -> {path.readlink()}" if path.is_symlink() else ""
        empty = " (empty)" if stat.S_ISREG(info.st_mode) and not info.st_size else ""
        lines.append(f"{stat.filemode(info.st_mode)} /{path.relative_to(root)}{target}{empty}\n")
    return "".join(lines)


def regenerate() -> None:
    """Rewrite the golden files beside this module."""
    for name in PARTS:
        path = HERE / name
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    os.umask(0o022)
    render(HERE)


if __name__ == "__main__":
    regenerate()
