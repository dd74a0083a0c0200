"""What a node is: the keys of `config/profiles/*.yaml`."""

from __future__ import annotations

from typing import Annotated

from pydantic import ByteSize, Field, field_validator

from builder.model.base import MIB, Closed, Line, Name, PackageName, Size, Word
from builder.model.container import Source


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


class Serve(Closed):
    """How the container runs on each node; the seed's `inference:` comes on top."""

    port: Annotated[int, Field(ge=1, le=65535)] = Field(8000, description="published TCP port")
    memory_percent: Annotated[int, Field(ge=10, le=100)] = Field(
        90, description="share of the node's memory that the container may take"
    )
    cpus_reserved: Annotated[int, Field(ge=0, le=64)] = Field(
        0, description="processors kept for the system"
    )
    shm: Size = Field(
        ByteSize(8 << 30), description="size of /dev/shm in the container", examples=["8GiB"]
    )
    pids: Annotated[int, Field(ge=64)] = Field(8192, description="most processes and threads")
    start_timeout_s: Annotated[int, Field(ge=60, le=14400)] = Field(
        1800, description="seconds from the start to the first token before it counts as failed"
    )
    args: dict[str, bool | int | float | str] = Field(
        default_factory=dict,
        description="flags of vLLM by name without --, where the seed does not say otherwise",
    )
    env: dict[str, str] = Field(default_factory=dict, description="variables for the server")


class Profile(Closed):
    """What a node is: kernel, packages, features, partition sizes, defaults."""

    description: Line = Field(description="one line for `imgbuild profiles`")
    abstract: bool = Field(False, description="only to be extended, never built")
    kernel: Kernel
    packages: Packages
    overlays: tuple[Name, ...] = Field(description="folders of overlays/, laid over in this order")
    disk: Disk
    node: Node
    container: Source | None = Field(
        None,
        description="the container image: recipe:NAME (image/containers/), docker://…@sha256:…, "
        "or oci-archive:FILE; none: the operating system alone",
    )
    serve: Serve = Serve()
    models: tuple[Name, ...] = Field(
        (), description="model bundles that are part of every version, by name in image/models/"
    )
    gpu: Gpu | None = Field(
        None, description="GPUs, as `imgbuild seed check` and the node count them; none: no GPU"
    )
