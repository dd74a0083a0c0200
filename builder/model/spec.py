"""The resolved specification: the hand-over from `resolve` to everything after it."""

from __future__ import annotations

from pydantic import Field

from builder.model.base import Closed, PackageName
from builder.model.container import BundleRecipe, ContainerRecipe
from builder.model.driver import DriverRecipe
from builder.model.profile import Profile
from builder.model.site import Site


class InitrdRecipe(Closed):
    """What the initrd is made of (`image/initrd.yaml`), or the installer has besides."""

    packages: tuple[PackageName, ...] = Field(description="Debian packages, unpacked with needs")
    modules: tuple[str, ...] = Field(description="kernel modules, taken with what they need")
    optional_modules: tuple[str, ...] = Field(
        (), description="further modules, taken where the kernel has them"
    )
    exclude: tuple[str, ...] = Field((), description="paths left out, as shell globs from the root")
    keep: tuple[str, ...] = Field((), description="what of the initrd's `exclude` stays after all")

    def with_more(self, more: InitrdRecipe) -> InitrdRecipe:
        """Return a recipe with everything of both."""
        return InitrdRecipe(
            packages=(*self.packages, *more.packages),
            modules=(*self.modules, *more.modules),
            optional_modules=(*self.optional_modules, *more.optional_modules),
            exclude=(*(one for one in self.exclude if one not in more.keep), *more.exclude),
        )


class Spec(Closed):
    """Everything a build needs to know about what is built, before versions are locked."""

    profile_name: str
    site_name: str
    profile: Profile
    site: Site
    packages: tuple[PackageName, ...] = Field(description="requested image packages, sorted")
    tools: tuple[PackageName, ...] = Field(description="requested tools tree packages, sorted")
    initrd: InitrdRecipe
    installer: InitrdRecipe = Field(description="what the installer has besides the initrd's")
    recipe: ContainerRecipe | None = Field(
        None, description="what the container is made of, where the profile names a recipe"
    )
    bundles: dict[str, BundleRecipe] = Field(
        default_factory=dict, description="the profile's model bundles, by name"
    )
    driver: DriverRecipe | None = Field(
        None, description="what the GPU driver is made of, where the profile has GPUs"
    )
    origins: dict[str, str] = Field(
        description="for each dotted path of profile and site, the file that set it, or 'default'"
    )

    @property
    def overlays(self) -> tuple[str, ...]:
        """The folders of overlays/: the profile's, then what the site's way to the GPUs needs.

        Last comes what encrypts `var`.
        """
        toolkit = self.profile.gpu is not None and self.site.gpu.runtime == "nvidia"
        more = ("gpu-nvidia",) if toolkit else ()
        encrypted = ("encryption",) if self.profile.disk.encrypt_var else ()
        return (*self.profile.overlays, *more, *encrypted)

    @property
    def image_id(self) -> str:
        """The IMAGE_ID of os-release(5): names a line of versions."""
        return f"imgbuild-{self.profile_name}"
