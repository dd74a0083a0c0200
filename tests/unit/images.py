"""Small whole manifests, to compare and to measure."""

from __future__ import annotations

from builder.model.artifacts import Artifact, DiskImage, InstalledPackage, Manifest
from builder.model.container import ContainerImage, ContainerLayer, LayerFile, ModelBundle, Payload
from tests.unit.fakes import EPOCH

MODEL = "Acme/Tiny"


def digest(letter: str) -> str:
    return letter * 64


def package(name: str = "alpha", version: str = "1.0", content: str = "0") -> InstalledPackage:
    return InstalledPackage(name=name, version=version, arch="amd64", sha256=digest(content))


def layer(title: str, letter: str, unpacked: int) -> ContainerLayer:
    return ContainerLayer(
        title=title,
        diff_id=digest(letter),
        chain_id=digest(letter),
        bytes=unpacked,
        root_hash=digest(letter),
    )


def file(letter: str, count: int) -> LayerFile:
    return LayerFile(
        root_hash=digest(letter), bytes=count, data_bytes=count - 1, sha256=digest(letter)
    )


def container(*layers: ContainerLayer, content: str = "c") -> ContainerImage:
    return ContainerImage(
        repository="imgnode/tiny",
        tag=digest(content)[:12],
        digest=digest(content),
        image_id=digest(content),
        config="{}",
        layers=layers,
    )


def payload(top: str = "b", top_bytes: int = 200) -> Payload:
    """Return a container of two layers and a model; `top` changes the upper layer."""
    return Payload(
        container=container(layer("os", "a", 300), layer("libraries", top, 1000), content=top),
        models=(ModelBundle(model=MODEL, revision="main", root_hash=digest("e")),),
        files=(file("a", 100), file(top, top_bytes), file("e", 400)),
    )


def manifest(
    version: str = "1",
    *,
    root: str = "1",
    packages: tuple[InstalledPackage, ...] | None = None,
    outside: Payload | None = None,
) -> Manifest:
    """Return a manifest; `root` changes the root image and the UKI with it."""
    files = {"root.erofs": 1000, "root.verity": 10, "uki.efi": 90, "initrd.cpio": 50}
    return Manifest(
        image_id="imgbuild-cpu",
        version=version,
        profile="cpu",
        site="debian",
        epoch=EPOCH,
        root_hash=digest(root),
        kernel_release="6.1.0-41-cloud-amd64",
        root_bytes=1000,
        root_slot_bytes=4000,
        inputs={},
        payload=payload() if outside is None else outside,
        disk=DiskImage(name="disk.raw", bytes=1, partitions=()),
        artifacts=tuple(
            Artifact(name=name, bytes=count, sha256=digest(root)) for name, count in files.items()
        ),
        packages=(package(),) if packages is None else packages,
    )
