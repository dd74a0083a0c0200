"""Turns the image's /var into tmpfiles.d(5) lines: each boot makes what is missing.

/var is a partition of the node that may be new, old or empty. Folders and links are
declared, files are copied from /usr/share/factory/var.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from builder.core.scrub import remove

_FACTORY = Path("usr/share/factory/var")
_MAKING = "fFdDvqQpLcbC"  # first letters of the types that make what they name
_CONF = Path("usr/lib/tmpfiles.d/zz-imgnode-var.conf")


def declare_var(root: Path) -> None:
    """Move /var's content to the factory folder, declare it, and leave /var empty."""
    declared = _declared_elsewhere(root)
    lines = ["# Made when the image was built: what its packages expect below /var.\n"]
    factory = root / _FACTORY
    factory.parent.mkdir(parents=True, exist_ok=True)
    for path in sorted((root / "var").rglob("*")):
        place = Path("/var") / path.relative_to(root / "var")
        line = _line(path, place)
        if str(place) not in declared and line:
            lines.append(line)
    (root / _CONF).write_text("".join(lines))
    _keep_files(root / "var", factory)
    for path in (root / "var").iterdir():
        remove(path)


def _declared_elsewhere(root: Path) -> set[str]:
    found = set()
    for conf in (root / "usr/lib/tmpfiles.d").glob("*.conf"):
        for line in conf.read_text().splitlines():
            words = line.split()
            if len(words) > 1 and words[0][0] in _MAKING:
                found.add(words[1].rstrip("/"))
    return found


def _line(path: Path, place: Path) -> str:
    info = path.lstat()
    owner = f"{stat.S_IMODE(info.st_mode):04o} {info.st_uid} {info.st_gid}"
    if stat.S_ISLNK(info.st_mode):
        return f'L "{place}" - - - - {path.readlink()}\n'
    if stat.S_ISDIR(info.st_mode):
        return f'd "{place}" {owner} -\n'
    if stat.S_ISREG(info.st_mode):
        return f'C "{place}" {owner} - /{_FACTORY}/{place.relative_to("/var")}\n'
    return ""


def _keep_files(var: Path, factory: Path) -> None:
    for path in sorted(var.rglob("*")):
        if path.is_file() and not path.is_symlink():
            target = factory / path.relative_to(var)
            target.parent.mkdir(parents=True, exist_ok=True)
            os.rename(path, target)  # noqa: PTH104 - same file system, keeps owner and mode
