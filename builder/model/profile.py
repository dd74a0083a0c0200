"""What a node is: the keys of `config/profiles/*.yaml`."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import (
    ByteSize,
    Field,
    SerializerFunctionWrapHandler,
    field_validator,
    model_serializer,
)

from builder.model.base import MIB, Closed, Line, Name, PackageName, Size, Word
from builder.model.container import Source
from builder.model.driver import DriverBranch, ModuleKind

PciDevice = Annotated[str, Field(pattern=r"^10de:[0-9a-f]{4}$")]


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
    encrypt_var: Literal["tpm"] | None = Field(
        None,
        description="tpm: a node encrypts `var` on first boot, and its TPM opens it for images "
        "that the site's `pcr_key` signed; none: not encrypted",
    )

    @field_validator("esp", "root", "cidata", "var_min")
    @classmethod
    def _whole_mib(cls, value: int) -> int:
        if value <= 0 or value % MIB:
            raise ValueError("must be a positive whole number of MiB, such as 512MiB")
        return value

    @model_serializer(mode="wrap")
    def _as_before(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave `encrypt_var` out where it is not set: such images keep their names and bytes."""
        values: dict[str, Any] = handler(self)
        if values.get("encrypt_var", self) is None:
            del values["encrypt_var"]
        return values


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


class GpuDriver(Closed):
    """Which NVIDIA driver the image carries; where it comes from is the site's matter."""

    branch: DriverBranch = Field(
        "535", description="driver branch; a lock with another one is refused"
    )
    modules: ModuleKind = Field("proprietary", description="which kernel modules are built")


class Mig(Closed):
    """Multi-Instance GPU: every GPU is split alike at each boot."""

    profile: Annotated[str, Field(pattern=r"^[1-7]g\.[0-9]+gb(\+me)?$")] = Field(
        description="GPU instance profile, as `nvidia-smi mig -lgip` names it",
        examples=["3g.40gb"],
    )
    count: Annotated[int, Field(ge=1, le=7)] = Field(description="instances on each GPU")


class Gpu(Closed):
    """The GPUs of the board, all alike; a seed's parallelism and memory are judged by them."""

    model: Line = Field(description="name of the board, for people", examples=["A100-SXM4-80GB"])
    names: tuple[Line, ...] = Field(
        ("*",),
        description="names that NVML may give the GPUs, as shell globs",
        examples=[["NVIDIA A100-SXM4-80GB*"]],
    )
    devices: tuple[PciDevice, ...] = Field(
        (), description="PCI device IDs; the driver must support each", examples=[["10de:20b2"]]
    )
    count: Annotated[int, Field(ge=1, le=64)] | None = Field(
        None, description="GPUs in one node; none: as many as there are"
    )
    memory: Size | None = Field(
        None, description="memory of each GPU; none: not known here", examples=["80GiB"]
    )
    driver: GpuDriver = GpuDriver()
    nvlink: bool = Field(False, description="whether the GPUs are joined by NVLink")
    fabric_manager: bool = Field(False, description="whether NVSwitch needs its manager")
    mig: Mig | None = Field(None, description="how each GPU is split; none: not at all")
    persistence: bool = Field(True, description="keep the driver loaded with nobody using it")
    power_limit_w: Annotated[int, Field(ge=50, le=2000)] | None = Field(
        None, description="power limit of each GPU in watts; none: the board's own"
    )
    ecc: bool | None = Field(None, description="ECC that the GPUs must have; none: as they are")


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
        None, description="GPUs, their driver, and how a node sets them up; none: no GPU, no driver"
    )
