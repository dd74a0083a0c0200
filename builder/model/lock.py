"""The lock: every package of an image, its initrd, its installer, and the tools that shape them."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from builder.model.base import Closed

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
TreeName = Literal["image", "initrd", "installer", "tools", "container", "driver"]


class LockedPackage(Closed):
    """One .deb, named exactly."""

    name: str
    version: str
    arch: str
    archive: int = Field(ge=0, description="index into the lock's archives")
    path: str = Field(description="address below the archive's base address, percent-escaped")
    size: int = Field(ge=0, description="bytes")
    sha256: Sha256
    trees: tuple[TreeName, ...] = Field(description="where the package is installed")

    @property
    def file_name(self) -> str:
        """The name of the .deb in a local repository."""
        return f"{self.name}_{self.version.replace(':', '%3a')}_{self.arch}.deb"


class LockedWheel(Closed):
    """One wheel, named exactly."""

    name: str = Field(description="normalised name (PEP 503)")
    version: str
    file_name: str
    sha256: Sha256


class LockedContainer(Closed):
    """Where the container comes from, named exactly: an image by digest, or a recipe's wheels."""

    source: str = Field(description="as the profile writes it")
    digest: Sha256 | None = Field(None, description="of the manifest, or of the archive file")
    wheels: tuple[LockedWheel, ...] = ()


class LockedSuite(Closed):
    """The state of one suite when it was locked."""

    suite: str
    date: int = Field(description="date of its Release file, seconds since 1970")


class LockedArchive(Closed):
    """One archive of the site when it was locked; `uri` as the site file writes it."""

    uri: str
    suites: tuple[LockedSuite, ...]


class Lock(Closed):
    """What `imgbuild lock` writes and `imgbuild build` installs, no more and no less."""

    schema_version: Literal[1] = 1
    profile: str
    site: str
    request: Sha256 = Field(description="digest of what was asked for: packages, suites, pins")
    outside: Sha256 | None = Field(
        None, description="digest of what was asked for outside the root: container, bundles"
    )
    epoch: int = Field(description="SOURCE_DATE_EPOCH of builds: newest Release date")
    archives: tuple[LockedArchive, ...]
    packages: tuple[LockedPackage, ...]
    container: LockedContainer | None = None
    bundles: dict[str, tuple[LockedWheel, ...]] = Field(
        default_factory=dict, description="for each model bundle, the wheels that it is made from"
    )

    wheels: tuple[LockedWheel, ...] = Field(
        (), description="wheels for the node's own Python, which the GPU driver asks for"
    )

    def without_container(self) -> Lock:
        """Return the lock of the operating system alone."""
        kept = []
        for package in self.packages:
            trees = tuple(tree for tree in package.trees if tree != "container")
            if trees:
                kept.append(package.model_copy(update={"trees": trees}))
        gone: dict[str, object] = {
            "outside": None,
            "container": None,
            "bundles": {},
            "packages": tuple(kept),
        }
        return self.model_copy(update=gone)

    def tree(self, name: TreeName) -> tuple[LockedPackage, ...]:
        """Return the packages of one tree, in the lock's order (by name)."""
        return tuple(package for package in self.packages if name in package.trees)

    def digest_inputs(self, name: TreeName) -> list[str]:
        """Return what a stage that installs a tree depends on."""
        return [f"{p.name}={p.version}:{p.arch} {p.sha256}" for p in self.tree(name)]
