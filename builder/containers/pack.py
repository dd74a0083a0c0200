"""A tree becomes the tar of a layer, always with the same bytes (GNU tar)."""

from __future__ import annotations

import os
from pathlib import Path

from builder.core.hashing import sha256_file
from builder.core.sandbox import Sandbox

# No layer knows when it was made, or equal ones would differ in every version. This is the
# oldest date that a wheel, a zip file, can hold.
LAYER_EPOCH = 315532800
TAR = "usr/bin/tar"


def code(*names: str) -> list[str]:
    """Return digests of modules of this room, for the keys of stages that they work for."""
    return [sha256_file(Path(__file__).with_name(name)) for name in names]


def pack(tools: Sandbox, tree: Path, tar: Path) -> None:
    """Write all below `tree` to the file `tar`: sorted, owners by number, times clamped."""
    tools.run(
        [
            "tar",
            "--create",
            f"--file={tar}",
            f"--directory={tree}",
            "--format=pax",
            "--pax-option=exthdr.name=%d/PaxHeaders/%f,delete=atime,delete=ctime",
            "--sort=name",
            "--numeric-owner",
            f"--mtime=@{LAYER_EPOCH}",
            "--clamp-mtime",
            "--xattrs",
            "--",
            *sorted(path.name for path in tree.iterdir()),
        ],
        write=[tar.parent],
        read=[tree],
        privileged=True,
    )


def normalise(root: Path) -> None:
    """Make modes follow from the executable bit alone and owners root, as umasks differ."""
    for folder, folders, files in os.walk(root):
        for name in (*folders, *files):
            path = Path(folder, name)
            os.chown(path, 0, 0, follow_symlinks=False)
            if not path.is_symlink():
                runs = path.is_dir() or path.stat().st_mode & 0o100
                path.chmod(0o755 if runs else 0o644)
