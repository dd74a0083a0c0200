"""The few files that are written beside the journal: cut when they grow, one older copy is kept.

Those are cloud-init's logs, and who logged in (wtmp, btmp: utmp(5)): for four files logrotate(8)
would be one more package, timer and state file.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

_FOLDER = Path("var/log")
_NAMES = ("cloud-init.log", "cloud-init-output.log", "wtmp", "btmp")
_LARGEST = 8 << 20


def rotate(root: Path = Path("/"), *, dry_run: bool = False) -> Iterator[str]:
    """Copy what is too large to NAME.1 and empty it; yield the names. Raises OSError.

    Emptied and not renamed: who has it open goes on writing to it, by O_APPEND.
    """
    for name in _NAMES:
        path = root / _FOLDER / name
        if not path.is_file() or path.is_symlink() or path.stat().st_size <= _LARGEST:
            continue
        if not dry_run:
            older = path.with_name(f"{name}.1")
            older.unlink(missing_ok=True)
            shutil.copyfile(path, older)
            older.chmod(path.stat().st_mode & 0o777)
            os.truncate(path, 0)
        yield f"the content of /{_FOLDER}/{name} (kept once as {name}.1)"
