"""What belongs to this version and lies outside its root: container, models, layer files.

The list lies in the verity-protected root, so its root hashes can be trusted. It is written
by the builder (builder/model/container.py, Payload).
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_PAYLOAD = Path("usr/lib/imgnode/payload.json")
_DIGEST = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class LayerFile:
    """One file of the layer store: an EROFS image of `data_bytes`, then its verity hash tree.

    `root_hash` is the dm-verity root hash, `sha256` the digest of the whole file.
    """

    root_hash: str
    bytes: int
    data_bytes: int
    sha256: str

    @property
    def name(self) -> str:
        """The file's name in the store and on a release server."""
        return f"{self.root_hash}.erofs"


@dataclass(frozen=True)
class ContainerLayer:
    """One layer of the container image; digests as in the OCI image specification."""

    title: str
    diff_id: str
    chain_id: str
    bytes: int
    root_hash: str


@dataclass(frozen=True)
class ContainerImage:
    """The container image, lowest layer first; `config` is the exact text behind `image_id`."""

    repository: str
    tag: str
    digest: str
    image_id: str
    config: str
    layers: tuple[ContainerLayer, ...]

    @property
    def reference(self) -> str:
        """The name by which `docker run` takes exactly this image."""
        return f"{self.repository}@sha256:{self.digest}"


@dataclass(frozen=True)
class ModelBundle:
    """Weights that are part of this version; `model` is the name that a seed asks for."""

    model: str
    revision: str
    root_hash: str


@dataclass(frozen=True)
class Payload:
    """Everything of this version that lies outside the root."""

    container: ContainerImage | None = None
    models: tuple[ModelBundle, ...] = ()
    files: tuple[LayerFile, ...] = ()


def read_payload(root: Path = Path("/")) -> Payload:
    """Return the payload of the running version; empty where the image has none.

    Raises OSError or ValueError when the image's own list is damaged.
    """
    try:
        values = json.loads((root / _PAYLOAD).read_text())
    except FileNotFoundError:
        return Payload()
    return parse_payload(values)


def parse_payload(values: dict[str, Any]) -> Payload:
    """Return the payload that a JSON object means.

    Raises ValueError for another version of it, and for a file whose name would not be a plain one.
    """
    if values.get("schema_version") != 1:
        raise ValueError(f"payload: schema_version {values.get('schema_version')!r} is not known")
    container = values["container"]
    if container is not None:
        layers = tuple(ContainerLayer(**layer) for layer in container["layers"])
        container = ContainerImage(**{**container, "layers": layers})
    return Payload(
        container=container,
        models=tuple(ModelBundle(**one) for one in values["models"]),
        files=tuple(_file(one) for one in values["files"]),
    )


def _file(values: dict[str, Any]) -> LayerFile:
    """Return a file of the list; a signed list is read with care, too: it names files on /var."""
    file = LayerFile(**values)
    if not (_DIGEST.fullmatch(file.root_hash) and _DIGEST.fullmatch(file.sha256)):
        raise ValueError(f"payload: {file.root_hash[:80]!r} is no digest, or its sha256 is none")
    for count in (file.bytes, file.data_bytes):
        if isinstance(count, bool) or not isinstance(count, int) or count < 0:
            raise ValueError(f"payload: {count!r} is no number of bytes")
    return file
