"""The last seed without a mistake, kept on /var: what serves when the present one is bad.

`good` is a symbolic link to a folder named by the content, so it changes in one step.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Mapping
from pathlib import Path

from imgnode.files import flush_folder, write_atomic
from imgnode.seed import LIMITS

_FOLDER = Path("var/lib/imgnode/seed")
_LINK = "good"
_PRIVATE, _SECRET = 0o700, 0o600  # a seed may hold secrets in write_files


def save(files: Mapping[str, bytes], root: Path = Path("/")) -> bool:
    """Keep the files of a good seed; tell whether they were new. Raises OSError."""
    kept = {name: data for name, data in files.items() if name in LIMITS}
    if load(root) == kept:
        return False
    store = root / _FOLDER
    store.mkdir(parents=True, exist_ok=True)
    store.chmod(_PRIVATE)
    folder = store / digest(kept)[:16]
    shutil.rmtree(folder, ignore_errors=True)  # left by a power cut
    folder.mkdir(mode=_PRIVATE)
    for name, data in kept.items():
        write_atomic(folder / name, data, _SECRET)
    link = store / f".{_LINK}.new"
    link.unlink(missing_ok=True)
    link.symlink_to(folder.name)
    link.replace(store / _LINK)
    flush_folder(store)
    for other in store.iterdir():
        if other.is_dir() and not other.is_symlink() and other != folder:
            shutil.rmtree(other, ignore_errors=True)
    return True


def load(root: Path = Path("/")) -> dict[str, bytes]:
    """Return the files of the last good seed; none where there is none that can be read."""
    folder = root / _FOLDER / _LINK
    found: dict[str, bytes] = {}
    try:
        for name in LIMITS:
            if (folder / name).is_file():
                found[name] = (folder / name).read_bytes()
    except OSError:
        return {}
    return found


def digest(files: Mapping[str, bytes]) -> str:
    """Return a digest of the files of a seed, names and contents."""
    total = hashlib.sha256()
    for name in sorted(files):
        total.update(f"{name} {len(files[name])}\n".encode())
        total.update(files[name])
    return total.hexdigest()
