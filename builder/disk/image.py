"""The finished files of an image, as one cached stage: UKI, disk image, manifest."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from builder.core.blockmap import ENDING, map_text
from builder.core.blockscan import scan
from builder.core.cache import Stage
from builder.core.context import Context
from builder.core.files import copy_sparse, write_atomic
from builder.core.hashing import sha256_file, sha256_tree
from builder.core.sandbox import Sandbox
from builder.disk.gpt import build_disk
from builder.disk.measure import PcrSigning
from builder.disk.secureboot import BootSigning, sign_program
from builder.disk.uki import build_uki, kernel_command_line
from builder.model.artifacts import (
    Artifact,
    DiskImage,
    Identity,
    InstalledPackage,
    Manifest,
    RootImage,
)
from builder.model.container import Payload
from builder.model.driver import Driver
from builder.model.lock import Lock
from builder.model.spec import Spec

MANIFEST = "manifest.json"


def build_files(
    context: Context,
    tools: Sandbox,
    spec: Spec,
    lock: Lock,
    identity: Identity,
    root: RootImage,
    initrd: Path,
    payload: Payload,
    driver: Driver | None,
    layers: Sequence[Path],
    keys: dict[str, str],
    signing: BootSigning | None,
    pcr: PcrSigning | None,
) -> Path:
    """Return the folder that holds every file of the image; `keys` are the parts' stage keys.

    `layers` are the files of the layer store that the disk image brings along. With `signing`,
    firmware with Secure Boot starts it; with `pcr`, TPMs know it.
    """
    inputs = {
        "parts": keys,
        "lock": lock.digest_inputs("tools"),
        "spec": spec.profile.disk.model_dump(mode="json"),
        "cmdline": kernel_command_line(spec, root),
        "esp": sha256_tree(context.project.image / "esp"),
        "layers": sorted(path.name for path in layers),
        "repart": sha256_tree(context.project.image / "repart.d"),
        **({"secure_boot": signing.digests()} if signing else {}),
        **({"pcr_key": pcr.digests()} if pcr else {}),
    }
    stage = Stage("image", inputs, Path(__file__).parent)

    def make(folder: Path) -> None:
        copy_sparse(context.runner, root.erofs, folder / "root.erofs")
        copy_sparse(context.runner, root.verity, folder / "root.verity")
        copy_sparse(context.runner, initrd, folder / "initrd.cpio")
        uki, target = folder / "uki.efi", folder / "disk.raw"
        build_uki(context, tools, spec, identity, root, initrd, uki, pcr)
        if signing:
            sign_program(context.runner, signing, uki, identity.epoch)
        artifacts = _artifacts(folder)
        disk = build_disk(context, tools, spec, identity, root, uki, layers, target, signing)
        target.with_name(f"{target.name}{ENDING}").write_text(map_text(scan(target)))
        manifest = _manifest(spec, lock, identity, root, payload, driver, keys, disk, artifacts)
        write_atomic(folder / MANIFEST, manifest.model_dump_json(indent=1) + "\n")
        for path in folder.iterdir():
            path.chmod(0o444)

    return context.cache.get(stage, make)


def _manifest(
    spec: Spec,
    lock: Lock,
    identity: Identity,
    root: RootImage,
    payload: Payload,
    driver: Driver | None,
    keys: dict[str, str],
    disk: DiskImage,
    artifacts: tuple[Artifact, ...],
) -> Manifest:
    return Manifest(
        image_id=identity.image_id,
        version=identity.version,
        profile=spec.profile_name,
        site=spec.site_name,
        epoch=identity.epoch,
        root_hash=root.root_hash,
        kernel_release=root.kernel_release,
        root_bytes=root.erofs.stat().st_size,
        root_slot_bytes=int(spec.profile.disk.root),
        inputs=keys,
        payload=payload,
        driver=driver.facts if driver else None,
        disk=disk,
        artifacts=artifacts,
        packages=tuple(
            InstalledPackage(name=p.name, version=p.version, arch=p.arch, sha256=p.sha256)
            for p in lock.tree("image")
        ),
    )


def _artifacts(folder: Path) -> tuple[Artifact, ...]:
    files = sorted(folder.iterdir())
    with ThreadPoolExecutor() as pool:  # hashing lets other threads run
        digests = list(pool.map(sha256_file, files))
    return tuple(
        Artifact(name=path.name, bytes=path.stat().st_size, sha256=digest)
        for path, digest in zip(files, digests, strict=True)
    )
