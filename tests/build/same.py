"""Compares two output folders byte for byte, and says where they differ."""

from __future__ import annotations

import subprocess
from pathlib import Path

from builder.core.hashing import sha256_file

_DISK = "disk.raw"


def assert_same_bytes(left: Path, right: Path, *, disk: bool = True) -> None:
    """Assert that both folders hold the same files; name the first that differs, and why.

    Without `disk`, the disk image's bytes are not read: gigabytes, most of them holes.
    """
    names = _names(left)
    assert names == _names(right)
    names = [name for name in names if disk or name != _DISK]
    for name in ("initrd.cpio", "root.erofs", *names):  # the cause before what follows from it
        done = subprocess.run(
            ["cmp", left / name, right / name], capture_output=True, text=True, check=False
        )
        if done.returncode == 0:
            modes = [(folder / name).stat().st_mode for folder in (left, right)]
            assert modes[0] == modes[1], f"{name}: other permissions"
            continue
        inside = _differing_paths(left, right) if name == "root.erofs" else []
        raise AssertionError("\n".join([done.stdout + done.stderr, *inside]))


def _names(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def _differing_paths(left: Path, right: Path) -> list[str]:
    """Return the paths of the root file systems that differ, as far as the kernel can show."""
    listings = []
    for folder in (left, right):
        point = folder.with_name(f"{folder.name}.mounted")
        point.mkdir()
        try:
            subprocess.run(["mount", "-o", "loop,ro", folder / "root.erofs", point], check=True)
            listings.append(set(_listing(point)))
        except subprocess.CalledProcessError as error:
            return [f"(no list of paths: {error})"]
        finally:
            subprocess.run(["umount", "--lazy", point], check=False)
            point.rmdir()
    return sorted(listings[0] ^ listings[1])[:40]


def _listing(root: Path) -> list[str]:
    lines = []
    for path in root.rglob("*"):
        info = path.lstat()
        body = sha256_file(path)[:12] if path.is_file() and not path.is_symlink() else ""
        owner = f"{info.st_mode:o} {info.st_uid}:{info.st_gid} {info.st_mtime_ns}"
        lines.append(f"{path.relative_to(root)} {owner} {info.st_size} {body}")
    return lines
