"""The NVIDIA driver: which packages it is made of at a site, and what a build makes of them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from builder.model.base import Closed, Line, PackageName
from builder.model.container import Pinned

ModuleKind = Literal["proprietary", "open"]
DriverBranch = Annotated[str, Field(pattern=r"^[1-9][0-9]{2}$")]


class DriverRecipe(Closed):
    """Where a site's driver comes from (`image/drivers/NAME.yaml`)."""

    description: Line = Field(description="one line for people")
    packages: tuple[PackageName, ...] = Field(
        description="user space of the image: libraries, firmware, tools; no X, no dkms"
    )
    modules: dict[ModuleKind, tuple[PackageName, ...]] = Field(
        description="dkms packages of the kernel modules, by kind; installed where they are built"
    )
    headers: PackageName = Field("linux-headers-amd64", description="headers of the kernel")
    wheels: tuple[Pinned, ...] = Field(
        (), description="wheels that the node's own programs need to ask the driver"
    )
    fabric_manager: tuple[PackageName, ...] = Field(
        (), description="what NVSwitch boards need besides; none: this site cannot have it"
    )


class DriverModule(Closed):
    """One kernel module, as modinfo(8) tells it."""

    name: str = Field(description="as modprobe(8) takes it, such as nvidia-uvm")
    file: str = Field(description="name of the file, such as nvidia-current-uvm.ko")
    bytes: int = Field(description="size of the file")
    version: str = Field(description="such as 535.309.01")
    kernel: str = Field(description="release of the kernel that it is built for (vermagic)")
    signer: str | None = Field(None, description="who has signed it; none: it is not signed")


class DriverFacts(Closed):
    """What an image says of its driver (`manifest.json`)."""

    version: str = Field(description="of the modules and of the user space, such as 535.309.01")
    kind: ModuleKind
    modules: tuple[DriverModule, ...]


class Driver(Closed):
    """Built kernel modules: a folder to be laid over the root, and what is in it."""

    tree: Path
    key: str = Field(description="of the stage that made the folder")
    facts: DriverFacts
