"""A folder becomes one file of the layer store: EROFS with its dm-verity tree behind it.

Salt and UUIDs follow from the content alone, so equal layers are equal files in every
version, and a node fetches none twice.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from builder.core.cache import Stage
from builder.core.context import Context
from builder.core.hashing import sha256_file
from builder.core.sandbox import Sandbox
from builder.model.base import Closed
from builder.model.container import LayerFile

_NAMESPACE = uuid.UUID("5a7f0c52-8d4e-4f0b-9a55-0f1c7be2d6a1")
_BLOCK = 4096
_LEVEL = 6  # lz4hc, as for the root
# All of the tools that decides about the bytes: an update of another one changes no key.
_PROGRAMS = ("usr/bin/mkfs.erofs", "usr/sbin/veritysetup", "usr/lib/x86_64-linux-gnu/liblz4.so.1")
_FACTS = "layer.json"


class _Facts(Closed):
    """What is kept beside a sealed layer."""

    file: LayerFile
    unpacked: int


@dataclass(frozen=True)
class Sealed:
    """A sealed layer: its file, where it lies, and the sum of its files' sizes, unpacked."""

    file: LayerFile
    path: Path
    unpacked: int


def seal_layer(
    context: Context,
    tools: Sandbox,
    name: str,
    inputs: Mapping[str, Any],
    fill: Callable[[Path], None],
    *,
    compress: bool,
    epoch: int,
    salt: str,
) -> tuple[LayerFile, Path]:
    """Return a sealed layer of what `fill` puts into an empty folder, and where it lies.

    The stage `name` runs `fill` only where the cache lacks the result for `inputs`, which
    must decide all that it does. Later time stamps become `epoch` (seconds since 1970).
    `salt` is 64 hexadecimal digits that follow from the content or from `inputs`.
    """
    sealed = seal(context, tools, name, inputs, fill, compress=compress, epoch=epoch, salt=salt)
    return sealed.file, sealed.path


def seal(
    context: Context,
    tools: Sandbox,
    name: str,
    inputs: Mapping[str, Any],
    fill: Callable[[Path], None],
    *,
    compress: bool,
    epoch: int,
    salt: str,
) -> Sealed:
    """As seal_layer; the result also tells how much was put in."""
    how = {"compress": compress, "epoch": epoch, "salt": salt, "by": tools.digest(*_PROGRAMS)}

    def make(folder: Path) -> None:
        with context.cache.workspace(name) as work:
            tree, image = work / "tree", folder / "layer"
            tree.mkdir()
            fill(tree)
            tree.chmod(0o755)
            unpacked = _file_bytes(tree)
            _erofs(tools, tree, image, compress=compress, epoch=epoch, salt=salt)
        facts = _Facts(file=_verity(tools, image, salt), unpacked=unpacked)
        (folder / _FACTS).write_text(facts.model_dump_json())

    stage = Stage(name, {"of": dict(inputs), **how}, Path(__file__))
    result = context.cache.get(stage, make)
    facts = _Facts.model_validate_json((result / _FACTS).read_text())
    return Sealed(facts.file, result / facts.file.name, facts.unpacked)


def _erofs(
    tools: Sandbox, tree: Path, image: Path, *, compress: bool, epoch: int, salt: str
) -> None:
    """mkfs.erofs(1), with privileges: xattrs of overlayfs are for the administrator's eyes."""
    packed = [f"-zlz4hc,{_LEVEL}"] if compress else []
    identity = ["-U", str(uuid.uuid5(_NAMESPACE, f"{salt}/erofs"))]
    tools.run(
        ["mkfs.erofs", "--quiet", *packed, *identity, image, tree],
        write=[image.parent],
        read=[tree],
        env={"SOURCE_DATE_EPOCH": str(epoch)},
        privileged=True,
    )


def _verity(tools: Sandbox, image: Path, salt: str) -> LayerFile:
    """Append the hash tree (veritysetup(8)); the file takes the root hash as its name."""
    size = -(-image.stat().st_size // _BLOCK) * _BLOCK
    os.truncate(image, size)
    root_hash = image.with_name("root.hash")
    tools.run(
        [
            "veritysetup",
            "format",
            image,
            image,
            f"--hash-offset={size}",
            f"--data-blocks={size // _BLOCK}",
            f"--data-block-size={_BLOCK}",
            f"--hash-block-size={_BLOCK}",
            f"--salt={salt}",
            f"--uuid={uuid.uuid5(_NAMESPACE, f'{salt}/verity')}",
            f"--root-hash-file={root_hash}",
        ],
        write=[image.parent],
    )
    image.chmod(0o444)
    made = LayerFile(
        root_hash=root_hash.read_text().strip(),
        bytes=image.stat().st_size,
        data_bytes=size,
        sha256=sha256_file(image),
    )
    root_hash.unlink()
    image.rename(image.with_name(made.name))
    return made


def _file_bytes(root: Path) -> int:
    total = 0
    for folder, _, files in os.walk(root):
        for name in files:
            total += os.lstat(os.path.join(folder, name)).st_size  # noqa: PTH118 - hot
    return total
