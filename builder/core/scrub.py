"""What is removed from an installed tree before it is sealed, whatever the tree becomes."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterable
from pathlib import Path

_DAY_S = 86400


def remove(path: Path) -> None:
    """Remove a file, a link or a whole folder."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def remove_globs(root: Path, patterns: Iterable[str]) -> None:
    """Remove all that fits one of the shell globs, which start at `root`; `**` is any depth."""
    for pattern in patterns:
        for path in sorted(root.glob(pattern)):
            remove(path)


def fix_shadow(shadow: Path, epoch: int) -> None:
    """Lock every account and give all the same day of last change (shadow(5))."""
    day = str(epoch // _DAY_S)
    lines = []
    for line in shadow.read_text().splitlines():
        name, _, _, *rest = line.split(":")
        lines.append(":".join([name, "!*", day, *rest]))
    shadow.write_text("\n".join(lines) + "\n")
    gshadow = shadow.with_name("gshadow")
    gshadow.write_text(re.sub(r"(?m)^([^:]+):[^:]*:", r"\1:!*:", gshadow.read_text()))
