"""The disk image: GPT with A/B slots, by the Discoverable Partitions Specification."""

from __future__ import annotations

import json
import os
import shutil
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined

from builder.core.context import Context
from builder.core.errors import UserError
from builder.core.sandbox import Sandbox
from builder.disk.secureboot import BootSigning, lay_enrolment, sign_program
from builder.disk.var import VarImage, build_var
from builder.model.artifacts import DiskImage, Identity, Partition, RootImage
from builder.model.base import MIB
from builder.model.spec import Spec

_NAMESPACE = uuid.UUID("9b1c7d0e-52aa-4d5f-8f0e-3a4d6e8b7c21")
_BOOT_LOADER = "usr/lib/systemd/boot/efi/systemd-bootx64.efi"
_TRIES = 3
_VAR = "50-var.conf.j2"


def build_disk(
    context: Context,
    tools: Sandbox,
    spec: Spec,
    identity: Identity,
    root: RootImage,
    uki: Path,
    layers: Sequence[Path],
    target: Path,
    signing: BootSigning | None = None,
) -> DiskImage:
    """Write the disk image to `target` with systemd-repart(8); return its description.

    With `layers`, the files of the layer store, it has a `var` partition that holds them;
    without, a node makes one. With `signing` its boot loader is signed; `uki` is already.
    Raises UserError when the ESP cannot hold two UKIs.
    """
    _check_esp(spec, uki)
    with context.cache.workspace("disk") as work:
        esp, definitions = work / "esp", work / "repart.d"
        _fill_esp(context, tools, identity, uki, esp, signing)
        var = None
        if layers:
            var = build_var(context, tools, layers, identity.epoch, work / "var.ext4")
        _write_definitions(context, spec, identity, root, esp, var, definitions)
        table = tools.run(
            [
                "systemd-repart",
                "--empty=create",
                "--size=auto",
                "--offline=yes",
                "--dry-run=no",
                "--json=short",
                f"--seed={uuid.uuid5(_NAMESPACE, identity.stem)}",
                f"--definitions={definitions}",
                target,
            ],
            write=[work, target.parent],
            read=[root.erofs.parent],
            env={
                "SOURCE_DATE_EPOCH": str(identity.epoch),
                "SYSTEMD_REPART_MKFS_OPTIONS_VFAT": "--invariant",
            },
        ).stdout
        disk = _described(json.loads(table), identity, root, var, target)
        more = {
            "least_bytes": least_bytes(spec, disk),
            "encrypt_var": spec.profile.disk.encrypt_var,
        }
        return disk.model_copy(update=more)


def least_bytes(spec: Spec, disk: DiskImage) -> int:
    """Return how large a node's disk must be: `var` grows to its least size on first boot."""
    own = sum(one.bytes for one in disk.partitions if one.type == "var")
    return disk.bytes + max(0, spec.profile.disk.var_min - own)


def verity_slot_bytes(root_slot: int) -> int:
    """Return the size of a verity partition that can hold the hash tree of a full root slot.

    Each 4096-byte hash block covers 128 blocks (dm-verity, SHA-256); one MiB is to spare.
    """
    return -(-root_slot // 127 // MIB) * MIB + 2 * MIB


def _check_esp(spec: Spec, uki: Path) -> None:
    two = 2 * uki.stat().st_size + MIB
    if two > spec.profile.disk.esp:
        raise UserError(
            f"profile {spec.profile_name}: disk.esp: {int(spec.profile.disk.esp) // MIB} MiB "
            f"cannot hold two kernel images ({two // MIB} MiB)",
            hint=f"set disk.esp to at least {two // MIB + 16}MiB",
        )


def lay_boot_loader(
    context: Context, tools: Sandbox, esp: Path, epoch: int, signing: BootSigning | None
) -> None:
    """Make the folder `esp`, with boot loader and its settings; `signing` signs it at `epoch`."""
    shutil.copytree(context.project.image / "esp", esp)
    loader = tools.tools / _BOOT_LOADER
    if signing:
        loader = Path(shutil.copyfile(loader, esp.with_name(loader.name)))
        sign_program(context.runner, signing, loader, epoch)
        lay_enrolment(signing, esp)
    for place in ("EFI/BOOT/BOOTX64.EFI", "EFI/systemd/systemd-bootx64.efi"):
        (esp / place).parent.mkdir(parents=True)
        shutil.copyfile(loader, esp / place)
    if signing:
        loader.unlink()


def _fill_esp(
    context: Context,
    tools: Sandbox,
    identity: Identity,
    uki: Path,
    esp: Path,
    signing: BootSigning | None,
) -> None:
    lay_boot_loader(context, tools, esp, identity.epoch, signing)
    entry = esp / "EFI/Linux" / f"{identity.stem}+{_TRIES}.efi"
    entry.parent.mkdir()
    shutil.copyfile(uki, entry)
    for path in (*sorted(esp.rglob("*"), reverse=True), esp):
        os.utime(path, (identity.epoch, identity.epoch))


def _write_definitions(
    context: Context,
    spec: Spec,
    identity: Identity,
    root: RootImage,
    esp: Path,
    var: VarImage | None,
    folder: Path,
) -> None:
    environment = Environment(undefined=StrictUndefined, keep_trailing_newline=True)  # noqa: S701
    values = {
        "esp": esp,
        "disk": spec.profile.disk,
        "stem": identity.stem,
        "root": root,
        "root_uuid": str(uuid.UUID(root.root_hash[:32])),
        "verity_uuid": str(uuid.UUID(root.root_hash[32:])),
        "verity_bytes": verity_slot_bytes(spec.profile.disk.root),
        "var": var,
        "var_uuid": str(uuid.uuid5(_NAMESPACE, f"{identity.stem}/var")),
    }
    folder.mkdir()
    for template in sorted((context.project.image / "repart.d").glob("*.conf.j2")):
        if template.name == _VAR and var is None:
            continue
        text = environment.from_string(template.read_text()).render(values)
        (folder / template.stem).write_text(text)


def _described(
    table: list[dict[str, Any]],
    identity: Identity,
    root: RootImage,
    var: VarImage | None,
    disk: Path,
) -> DiskImage:
    """Describe the partitions, and compare the slots and `var` with their sources.

    repart only warns when a copy fails, and ends well with an empty slot.
    """
    partitions = []
    for row in table:
        source = None
        if row["label"] == identity.stem:
            source = root.verity if row["type"].endswith("-verity") else root.erofs
        elif row["type"] == "var":
            source = var.path if var else None
        if source and not _same_bytes(source, disk, row["offset"]):
            raise UserError(
                f"{disk}: partition {row['label']} ({row['type']}) is not what was written",
                hint="the disk under the cache folder is full or failing",
            )
        partitions.append(
            Partition(
                label=row["label"],
                type=row["type"],
                uuid=row["uuid"],
                offset=row["offset"],
                bytes=row["raw_size"],
                source=source.name if source and row["type"] != "var" else None,
            )
        )
    return DiskImage(name=disk.name, bytes=disk.stat().st_size, partitions=tuple(partitions))


def _same_bytes(source: Path, disk: Path, offset: int) -> bool:
    with source.open("rb") as left, disk.open("rb") as right:
        right.seek(offset)
        while chunk := left.read(MIB):
            if right.read(len(chunk)) != chunk:
                return False
    return True
