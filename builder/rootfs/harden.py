"""What a root must not hold, and which of its programs have more rights than their callers."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path

from builder.core.errors import UserError

# Where programs are built, packages installed and desktops run: shell globs from the root.
_FORBIDDEN = (
    "usr/bin/*-linux-gnu-gcc*",
    "usr/bin/*-linux-gnu-ld*",
    "usr/bin/apt*",
    "usr/bin/as",
    "usr/bin/c++",
    "usr/bin/cc",
    "usr/bin/clang*",
    "usr/bin/g++*",
    "usr/bin/gcc*",
    "usr/bin/ld",
    "usr/bin/make",
    "usr/bin/pip",
    "usr/bin/pip3*",
    "usr/bin/tcc",
    "usr/bin/X",
    "usr/bin/Xorg",
    "usr/lib/gcc/**/cc1",
    "usr/lib/modules/*/build",
    "usr/lib/modules/*/source",
    "usr/lib/xorg/modules/**/*.so",  # Debian brings the empty folders
    "usr/lib/x86_64-linux-gnu/libX11.so*",
    "usr/sbin/dkms",
    "usr/src/*",
)
_TOLD = 5
_CAPABILITIES = "security.capability"
_DROP = "drop"
_RULE = re.compile(r"(keep|drop)\s+(/\S+)")


def check_forbidden(root: Path) -> None:
    """Raise UserError when the root has what builds or installs software, or a desktop's parts."""
    found = [str(path.relative_to(root)) for glob in _FORBIDDEN for path in sorted(root.glob(glob))]
    if found:
        raise UserError(
            f"the image has what no node needs: {_some(found)}",
            hint="leave compilers, headers, package managers and X out of the packages of the "
            "profile and of image/drivers/ (the driver is built apart)",
        )


def settle_rights(root: Path, conf: Path) -> None:
    """Take set-ID bits and file capabilities from all programs that `conf` does not keep.

    Raises UserError for a program with such rights that `conf` does not name, and for a line
    of it that cannot be understood.
    """
    verdicts = _verdicts(conf)
    found = {f"/{path.relative_to(root)}": path for path in _privileged(root)}
    unknown = sorted(found.keys() - verdicts.keys())
    if unknown:
        raise UserError(
            f"a package brings programs that run with more rights than their callers: "
            f"{_some(unknown)}",
            hint=f"name each in {conf}: keep, with a reason, or drop",
        )
    for name, path in found.items():
        if verdicts[name] == _DROP:
            _take_rights(path)


def _verdicts(conf: Path) -> dict[str, str]:
    """Return what is to become of each program, by its path on the node."""
    verdicts = {}
    for number, line in enumerate(conf.read_text().splitlines(), 1):
        rule = line.partition("#")[0].strip()
        if not rule:
            continue
        words = _RULE.fullmatch(rule)
        if words is None:
            raise UserError(
                f"{conf}:{number}: cannot be understood", hint="keep /PATH, or drop /PATH"
            )
        verdicts[words[2]] = words[1]
    return verdicts


def _privileged(root: Path) -> Iterator[Path]:
    """Yield the files with set-ID bits or capabilities; folders may hand on their group."""
    for folder, _, names in os.walk(root):
        for path in (Path(folder, name) for name in names):
            mode = path.lstat().st_mode
            if stat.S_ISREG(mode) and (
                mode & (stat.S_ISUID | stat.S_ISGID)
                or _CAPABILITIES in os.listxattr(path, follow_symlinks=False)
            ):
                yield path


def _take_rights(path: Path) -> None:
    path.chmod(stat.S_IMODE(path.stat().st_mode) & 0o777)
    if _CAPABILITIES in os.listxattr(path):
        os.removexattr(path, _CAPABILITIES)


def _some(names: list[str]) -> str:
    more = f" and {len(names) - _TOLD} more" if len(names) > _TOLD else ""
    return f"{', '.join(names[:_TOLD])}{more}"
