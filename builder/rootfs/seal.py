"""The sealed root: tree → EROFS → dm-verity, as one cached stage."""

from __future__ import annotations

import shutil
import uuid
from pathlib import Path

from builder.core.cache import Stage
from builder.core.context import Context
from builder.core.errors import UserError
from builder.core.hashing import sha256_file, sha256_tree
from builder.core.mounts import overlay
from builder.core.sandbox import Sandbox
from builder.model.artifacts import Identity, RootImage
from builder.model.container import Payload
from builder.model.driver import Driver
from builder.model.lock import Lock
from builder.model.spec import Spec
from builder.rootfs.finish import finish
from builder.rootfs.releasekeys import release_key_files

_NAMESPACE = uuid.UUID("1f0a5e9e-6f3c-4c8b-9a3e-5b6d1c2f7e40")
_EROFS_LEVEL = 6  # level 9 takes 1.6 times as long for 0.3 % less
_MIB = 1 << 20


def build_root(
    context: Context,
    tools: Sandbox,
    spec: Spec,
    lock: Lock,
    identity: Identity,
    payload: Payload,
    driver: Driver | None,
    base: Path,
    base_key: str,
) -> tuple[RootImage, str]:
    """Return the sealed root image, which names the `payload`, and its stage key.

    The modules of `driver` are laid over the root, and the node's wheels of the lock.
    Raises UserError when the image is larger than the profile's root slot.
    """
    project = context.project
    inputs = {
        "base": base_key,
        "identity": identity.model_dump(),
        "payload": payload.model_dump(mode="json"),
        "driver": driver.key if driver else None,
        "wheels": [wheel.sha256 for wheel in lock.wheels],
        "profile": spec.profile.model_dump(mode="json"),
        "site": spec.site.model_dump(mode="json"),
        "overlays": {name: sha256_tree(project.overlays / name) for name in spec.overlays},
        "units": sha256_tree(project.units),
        "imgnode": sha256_tree(project.imgnode),
        "release_keys": [sha256_file(path) for path in release_key_files(project.sites, spec.site)],
        "persist": sha256_file(project.image / "etc-persist.conf"),
        "rights": sha256_file(project.image / "setuid.conf"),
    }
    stage = Stage("root", inputs, Path(__file__).parent)
    result = context.cache.get(
        stage,
        lambda folder: _make(context, tools, spec, lock, identity, payload, driver, base, folder),
    )
    root = RootImage(
        erofs=result / "root.erofs",
        verity=result / "root.verity",
        root_hash=(result / "root.hash").read_text().strip(),
        kernel=result / "vmlinuz",
        kernel_release=(result / "kernel.release").read_text().strip(),
    )
    _check_size(root.erofs.stat().st_size, spec)
    return root, stage.key


def _make(
    context: Context,
    tools: Sandbox,
    spec: Spec,
    lock: Lock,
    identity: Identity,
    payload: Payload,
    driver: Driver | None,
    base: Path,
    folder: Path,
) -> None:
    kernel = kernel_file(base)
    shutil.copyfile(kernel, folder / "vmlinuz")
    (folder / "kernel.release").write_text(kernel.name.removeprefix("vmlinuz-"))
    with context.cache.workspace("root-tree") as work, overlay(context.runner, base, work) as tree:
        finish(context, tools, spec, lock, identity, payload, driver, tree)
        _erofs(tools, identity, tree, folder)
    _verity(tools, identity, folder)


def kernel_file(base: Path) -> Path:
    """Return the one kernel image in a tree. Raises UserError when there is none, or another."""
    kernels = sorted((base / "boot").glob("vmlinuz-*"))
    if len(kernels) != 1:
        raise UserError(
            f"the image has {len(kernels)} kernels: {', '.join(k.name for k in kernels) or 'none'}",
            hint="let exactly one package of the profile bring a kernel",
        )
    return kernels[0]


def _erofs(tools: Sandbox, identity: Identity, tree: Path, folder: Path) -> None:
    """mkfs.erofs(1): SOURCE_DATE_EPOCH clamps times, the UUID follows from the identity."""
    tools.run(
        [
            "mkfs.erofs",
            "--quiet",
            f"-zlz4hc,{_EROFS_LEVEL}",
            "-U",
            str(uuid.uuid5(_NAMESPACE, f"{identity.stem}/root")),
            folder / "root.erofs",
            tree,
        ],
        write=[folder],
        read=[tree],
        env={"SOURCE_DATE_EPOCH": str(identity.epoch)},
    )


def _verity(tools: Sandbox, identity: Identity, folder: Path) -> None:
    """veritysetup(8) with a salt and UUID that follow from the identity."""
    salt = uuid.uuid5(_NAMESPACE, f"{identity.stem}/salt").hex * 2
    tools.run(
        [
            "veritysetup",
            "format",
            folder / "root.erofs",
            folder / "root.verity",
            "--data-block-size=4096",
            "--hash-block-size=4096",
            f"--salt={salt}",
            f"--uuid={uuid.uuid5(_NAMESPACE, f'{identity.stem}/verity')}",
            f"--root-hash-file={folder / 'root.hash'}",
        ],
        write=[folder],
    )


def _check_size(size: int, spec: Spec) -> None:
    slot = int(spec.profile.disk.root)
    if size > slot:
        needed = -(-size // _MIB)
        raise UserError(
            f"the root image has {needed} MiB, the slot only {slot // _MIB} MiB "
            f"({spec.origins.get('profile.disk.root', 'profile')}: disk.root)",
            hint=f"set disk.root to at least {needed}MiB, better twice that: "
            "slots cannot grow on installed nodes",
        )
