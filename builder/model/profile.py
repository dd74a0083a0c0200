"""What a node is: the keys of `config/profiles/*.yaml`."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, field_validator

from builder.model.base import MIB, Closed, Line, Name, PackageName, Size, Word


class Kernel(Closed):
    """The Linux kernel of the image."""

    package: PackageName = Field(
        "linux-image-amd64", description="Debian package that pulls in the kernel"
    )
    cmdline: tuple[Word, ...] = Field((), description="words added to the kernel command line")


class Packages(Closed):
    """The Debian packages of the image."""

    roles: tuple[Name, ...] = Field(description="package lists in image/packages/, by name")
    include: tuple[PackageName, ...] = Field((), description="further packages")


class Disk(Closed):
    """Sizes of the partitions; what is left of a disk becomes `var` on first boot."""

    esp: Size = Field(description="EFI system partition: boot loader and UKIs of two versions")
    root: Size = Field(description="each of the two root slots; the root image must fit")
    cidata: Size = Field(description="cloud-init seed (vfat, label CIDATA)")
    var_min: Size = Field(description="least size of the writable partition")

    @field_validator("esp", "root", "cidata", "var_min")
    @classmethod
    def _whole_mib(cls, value: int) -> int:
        if value <= 0 or value % MIB:
            raise ValueError("must be a positive whole number of MiB, such as 512MiB")
        return value


class Node(Closed):
    """Defaults that every node of this profile starts with; the seed overrides them."""

    hostname: Name = Field("imgnode", description="host name where the seed gives none")
    timezone: Annotated[str, Field(pattern=r"^[A-Za-z0-9_+-]+(/[A-Za-z0-9_+-]+)*$")] = Field(
        "Etc/UTC", description="tz database name"
    )
    journal_max: Size = Field(description="most space that the journal takes on /var")
    watchdog_s: Annotated[int, Field(ge=10, le=600)] = Field(
        60, description="seconds after which the hardware watchdog resets a hung node"
    )


class Gpu(Closed):
    """The GPUs of the board, all alike; a seed's parallelism and memory are judged by them."""

    model: Line = Field(description="name of the board, for people", examples=["A100-SXM4-80GB"])
    count: Annotated[int, Field(ge=1, le=64)] = Field(description="GPUs in one node")
    memory: Size = Field(description="memory of each GPU", examples=["80GiB"])


class Profile(Closed):
    """What a node is: kernel, packages, features, partition sizes, defaults."""

    description: Line = Field(description="one line for `imgbuild profiles`")
    abstract: bool = Field(False, description="only to be extended, never built")
    kernel: Kernel
    packages: Packages
    overlays: tuple[Name, ...] = Field(description="folders of overlays/, laid over in this order")
    disk: Disk
    node: Node
    gpu: Gpu | None = Field(
        None, description="GPUs, as `imgbuild seed check` and the node count them; none: no GPU"
    )
