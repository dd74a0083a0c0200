"""What the stages hand on: the root image, the finished files, the manifest."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer

from builder.model.base import Closed
from builder.model.container import Payload
from builder.model.driver import DriverFacts
from builder.model.lock import Lock, Sha256

# What tells of an image and lies beside it, if it was made: no node needs it.
PROVENANCE, SPDX, CYCLONEDX = "provenance.json", "sbom.spdx.json", "sbom.cdx.json"
LOCK = "lock.json"
DOCUMENTS = (LOCK, PROVENANCE, CYCLONEDX, SPDX)


class Identity(Closed):
    """Which image this is (os-release(5), IMAGE_ID and IMAGE_VERSION)."""

    image_id: str
    version: str
    epoch: int = Field(description="SOURCE_DATE_EPOCH, seconds since 1970")

    @property
    def stem(self) -> str:
        """The name that partitions and the UKI carry, as systemd-sysupdate matches it."""
        return f"{self.image_id}_{self.version}"


class RootImage(Closed):
    """The root file system, sealed: EROFS image, verity tree, root hash."""

    erofs: Path
    verity: Path
    root_hash: Sha256
    kernel: Path
    kernel_release: str


class InstalledPackage(Closed):
    """One Debian package in the image."""

    name: str
    version: str
    arch: str
    sha256: Sha256


class Artifact(Closed):
    """One file of the output folder."""

    name: str
    bytes: int
    sha256: Sha256


class Partition(Closed):
    """One partition of the disk image; `source` is the artifact that it holds."""

    label: str
    type: str = Field(description="name by the Discoverable Partitions Specification")
    uuid: str
    offset: int = Field(description="bytes from the start of the disk")
    bytes: int
    source: str | None = None


class DiskImage(Closed):
    """The disk image: mostly holes, so it is described by its parts and not by one digest."""

    name: str
    bytes: int = Field(description="apparent size; a disk must have room for var besides")
    least_bytes: int | None = Field(None, description="least size of a disk: with the least var")
    partitions: tuple[Partition, ...]
    encrypt_var: Literal["tpm"] | None = Field(
        None, description="how a node encrypts var on its first boot; none: not at all"
    )

    @model_serializer(mode="wrap")
    def _as_before(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave `encrypt_var` out where it is not set: such manifests keep their bytes."""
        values: dict[str, Any] = handler(self)
        if values.get("encrypt_var", self) is None:
            del values["encrypt_var"]
        return values


class Manifest(Closed):
    """What lies beside an image: identity, inputs, packages, files (`manifest.json`)."""

    schema_version: int = 1
    image_id: str
    version: str
    profile: str
    site: str
    epoch: int
    root_hash: Sha256
    kernel_release: str
    root_bytes: int = Field(description="bytes of the root image")
    root_slot_bytes: int = Field(description="bytes of a root slot")
    inputs: dict[str, str] = Field(description="stage keys: equal keys, equal results")
    payload: Payload = Field(description="container, models and layer files of this version")
    driver: DriverFacts | None = Field(None, description="GPU driver; none: the profile has no GPU")
    disk: DiskImage
    artifacts: tuple[Artifact, ...]
    packages: tuple[InstalledPackage, ...]

    def is_built_from(self, lock: Lock) -> bool:
        """Tell whether the image has the packages of this lock, and its time."""
        locked = {(one.name, one.version, one.arch, one.sha256) for one in lock.tree("image")}
        built = {(one.name, one.version, one.arch, one.sha256) for one in self.packages}
        return locked == built and lock.epoch == self.epoch
