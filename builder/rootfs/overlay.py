"""Lays the overlays, units and the node's own package over the installed root."""

from __future__ import annotations

import shutil
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined, TemplateError, TemplateSyntaxError

from builder.core.errors import UserError
from builder.core.files import copy_own
from builder.core.paths import Project

_TEMPLATE = ".j2"
_UNIT_FOLDERS = {
    "system": "usr/lib/systemd/system",
    "system-preset": "usr/lib/systemd/system-preset",
    "tmpfiles.d": "usr/lib/tmpfiles.d",
}


def lay_overlay(source: Path, root: Path, values: Mapping[str, Any]) -> None:
    """Copy one overlay folder into `root`; files that end in .j2 are rendered with `values`.

    Owners become root; modes come from the source's executable bit. Raises UserError for
    a template that does not render.
    """
    environment = Environment(
        undefined=StrictUndefined,
        keep_trailing_newline=True,
        autoescape=False,  # noqa: S701
    )
    for path in sorted(source.rglob("*")):
        target = root / path.relative_to(source)
        if path.is_symlink():
            _place(target)
            target.symlink_to(path.readlink())
        elif path.is_dir():
            target.mkdir(mode=0o755, parents=True, exist_ok=True)
        elif path.suffix == _TEMPLATE:
            target = target.with_suffix("")
            _place(target)
            target.write_text(_render(environment, path, values))
            _set_mode(path, target)
        else:
            _place(target)
            shutil.copyfile(path, target)
            _set_mode(path, target)


def lay_units(project: Project, root: Path) -> None:
    """Copy the project's units, presets and tmpfiles.d into their systemd folders."""
    for folder, place in _UNIT_FOLDERS.items():
        if (project.units / folder).is_dir():
            lay_overlay(project.units / folder, root / place, {})


def lay_imgnode(project: Project, root: Path) -> None:
    """Install the node's Python package and its command."""
    target = root / "usr/lib/python3/dist-packages/imgnode"
    copy_own(project.imgnode, target)
    command = root / "usr/bin/imgnode"
    command.write_text("#!/usr/bin/python3\nfrom imgnode.cli import main\n\nmain()\n")
    command.chmod(0o755)


def _place(target: Path) -> None:
    target.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    target.unlink(missing_ok=True)


def _render(environment: Environment, path: Path, values: Mapping[str, Any]) -> str:
    try:
        return environment.from_string(path.read_text()).render(values)
    except TemplateError as error:
        raise UserError(
            f"{path}:{_template_line(error)}: {error}",
            hint="templates see `profile`, `site` and `identity`",
        ) from None


def _template_line(error: TemplateError) -> int:
    if isinstance(error, TemplateSyntaxError):
        return error.lineno
    frames = traceback.extract_tb(error.__traceback__)
    return next((f.lineno or 1 for f in reversed(frames) if f.filename == "<template>"), 1)


def _set_mode(source: Path, target: Path) -> None:
    executable = source.stat().st_mode & 0o100
    secret = "sudoers.d" in source.parts
    target.chmod(0o755 if executable else 0o440 if secret else 0o644)
