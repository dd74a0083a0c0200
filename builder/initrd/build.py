"""The initrd: a cpio of unpacked packages, the kernel modules it needs, and our units.

No maintainer script runs, so the same lock gives the same bytes.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from builder.core.bootstrap import checked_deb
from builder.core.cache import Stage
from builder.core.context import Context
from builder.core.files import clamp_times, copy_own
from builder.core.hashing import sha256_file, sha256_tree
from builder.core.sandbox import Sandbox
from builder.initrd.modules import copy_modules
from builder.model.lock import Lock, LockedPackage
from builder.model.spec import Spec

_MERGED = ("bin", "sbin", "lib", "lib64")
_USERS = ("passwd", "group")  # udev's rules name groups; each profile has its own
_TPM = "initrd-tpm"
_EMPTY = ("dev", "proc", "sys", "run", "tmp", "sysroot", "var", "root")
# initrd-release(5) tells systemd that it runs in an initrd.
_RELEASE = 'NAME="imgbuild initrd"\nID=imgbuild-initrd\nPRETTY_NAME="imgbuild initrd"\n'
# Not compressed: a patch of an update finds little in a compressed file of which a part changed.
_PACK = """
set -e -o pipefail; cd "$1"
find . -mindepth 1 -printf '%P\\0' | LC_ALL=C sort -z \
    | cpio --quiet --null --create --format=newc --reproducible --owner=+0:+0 > "$2"
"""
# Not `dpkg-deb --extract`: it would replace the link /lib by a folder.
_UNPACK = """
set -e -o pipefail; root=$1; shift
for deb; do dpkg-deb --fsys-tarfile "$deb" | tar -x -C "$root" --keep-directory-symlink; done
"""


def build_initrd(
    context: Context, tools: Sandbox, spec: Spec, lock: Lock, base: Path
) -> tuple[Path, str]:
    """Return the initrd and its stage key; `base` gives the kernel modules."""
    own = context.project.image / "initrd"
    inputs = {
        "recipe": spec.initrd.model_dump(),
        "packages": lock.digest_inputs("initrd"),
        "kernel": [line for line in lock.digest_inputs("image") if line.startswith("linux-image")],
        "tools": lock.digest_inputs("tools"),
        "own": sha256_tree(own),
        "users": [sha256_file(base / "etc" / name) for name in _USERS],
        "epoch": lock.epoch,
        **({"tpm": sha256_tree(context.project.image / _TPM)} if spec.site.pcr_key else {}),
    }
    stage = Stage("initrd", inputs, Path(__file__).parent)
    result = context.cache.get(
        stage, lambda folder: _make(context, tools, spec, lock, base, folder)
    )
    return result / "initrd.cpio", stage.key


def _make(
    context: Context, tools: Sandbox, spec: Spec, lock: Lock, base: Path, folder: Path
) -> None:
    with context.cache.workspace("initrd-tree") as work:
        root = work / "root"
        unpack(context, tools, lock.tree("initrd"), spec.initrd.exclude, base, root)
        copy_modules(context, tools, spec.initrd, base, root)
        copy_own(context.project.image / "initrd", root)
        if spec.site.pcr_key:
            copy_own(context.project.image / _TPM, root)
        pack(tools, root, lock.epoch, folder / "initrd.cpio")


def unpack(
    context: Context,
    tools: Sandbox,
    packages: Sequence[LockedPackage],
    exclude: tuple[str, ...],
    base: Path,
    root: Path,
) -> None:
    """Fill the folder `root` with what packages hold, less what is left out.

    No maintainer script runs. Users are those of `base`.
    """
    _skeleton(root, base)
    debs = [checked_deb(context.cache.root, package) for package in packages]
    debs_folder = context.cache.root / "debs"
    words: list[str | Path] = ["bash", "-c", _UNPACK, "unpack", root, *debs]
    tools.run(words, write=[root.parent], read=[debs_folder])
    _leave_out(root, exclude)
    for name in _EMPTY:
        (root / name).mkdir(exist_ok=True)


def pack(tools: Sandbox, root: Path, epoch: int, archive: Path) -> None:
    """Make a cpio of a folder; the same content gives the same bytes."""
    tools.run(["ldconfig", "-r", root], write=[root.parent])
    _leave_out(root, ("var/*",))
    clamp_times(root, epoch)
    words: list[str | Path] = ["bash", "-c", _PACK, "pack", root, archive]
    tools.run(words, read=[root.parent], write=[archive.parent])


def _skeleton(root: Path, base: Path) -> None:
    (root / "etc").mkdir(parents=True)
    for name in _MERGED:
        (root / "usr" / name).mkdir(parents=True)
        (root / name).symlink_to(f"usr/{name}")
    (root / "init").symlink_to("usr/lib/systemd/systemd")
    (root / "etc/initrd-release").write_text(_RELEASE)
    (root / "etc/os-release").symlink_to("initrd-release")
    (root / "etc/machine-id").touch()
    for name in _USERS:
        shutil.copyfile(base / "etc" / name, root / "etc" / name)


def _leave_out(root: Path, patterns: tuple[str, ...]) -> None:
    for pattern in patterns:
        for path in sorted(root.glob(pattern)):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()
