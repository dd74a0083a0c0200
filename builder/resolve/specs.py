"""Joins a profile, a site and the image's lists into the specification of a build."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from builder.core.errors import ConfigError
from builder.model.spec import Spec
from builder.resolve.drivers import load_driver
from builder.resolve.names import names_in
from builder.resolve.problems import did_you_mean, problem, unique
from builder.resolve.profiles import LoadedProfile, load_profile
from builder.resolve.recipes import Recipes, load_recipes
from builder.resolve.roles import initrd_recipe, missing_overlays, package_list, role_packages
from builder.resolve.sites import load_site
from builder.resolve.standins import stand_in
from builder.resolve.validation import origins

if TYPE_CHECKING:
    from builder.core.paths import Project
    from builder.model.driver import DriverRecipe
    from builder.model.profile import Profile
    from builder.model.site import Site
    from builder.model.spec import InitrdRecipe


_NO_CONTAINER = {"container": None, "models": ()}


class _Measured(NamedTuple):
    """What a site with a `pcr_key` adds: packages of the image, and to the initrd."""

    packages: frozenset[str] = frozenset()
    initrd: InitrdRecipe | None = None


class ProfileInfo(NamedTuple):
    """A profile as `imgbuild profiles` lists it; `error` holds its problems, one per line."""

    name: str
    description: str
    abstract: bool
    extends: str | None
    error: str | None


def resolve(project: Project, profile: str, site: str, *, container: bool = True) -> Spec:
    """Return everything a build of `profile` at `site` needs to know, before versions.

    Its packages are those of the profile's roles, `packages.include`, the kernel and the GPU
    driver; the site's stand-ins are in their places. Without `container` it has no container
    and no model bundles, whatever the profile says.
    Raises ConfigError with all problems of all files at once.
    """
    place = load_site(project, site)
    node, packages, problems = _checked(project, profile, place.value, site)
    driver, wrong_driver = load_driver(project, node.value, place, site)
    tools, wrong_tools = package_list(project, project.image / "tools.yaml")
    initrd, wrong_initrd = initrd_recipe(project, "initrd")
    installer, wrong_installer = initrd_recipe(project, "installer")
    measured, wrong_measured = _measured(project, place.value)
    recipes = Recipes()
    if container:
        recipes, wrong_recipes = load_recipes(project, node)
        problems += wrong_recipes
    problems += _abstract(project, node) + place.problems + wrong_tools + wrong_initrd
    problems += wrong_driver + wrong_installer + wrong_measured
    if problems or not (node.value and place.value and initrd and installer):
        raise ConfigError(unique(problems))
    packages |= measured.packages
    packages |= {*node.value.packages.include, node.value.kernel.package}
    packages |= _driver_packages(node.value, driver)
    return Spec(
        profile_name=profile,
        site_name=site,
        profile=node.value if container else node.value.model_copy(update=_NO_CONTAINER),
        site=place.value,
        packages=tuple(sorted(packages)),
        tools=tuple(sorted(set(tools))),
        initrd=initrd.with_more(measured.initrd) if measured.initrd else initrd,
        installer=installer,
        recipe=recipes.container,
        bundles=recipes.bundles,
        driver=driver,
        origins={
            **origins(node.value, node.layers, "profile"),
            **origins(place.value, place.layers, "site"),
        },
    )


def list_profiles(project: Project) -> list[ProfileInfo]:
    """Return every profile there is, sorted by name; a broken one says so in `error`."""
    return [_info(project, name) for name in names_in(project.profiles)]


def _info(project: Project, name: str) -> ProfileInfo:
    loaded, _, problems = _checked(project, name, None, "")
    text = loaded.layers.at("description")
    return ProfileInfo(
        name=name,
        description=text if isinstance(text, str) else "",
        abstract=loaded.abstract,
        extends=loaded.extends,
        error="\n".join(unique(problems)) or None,
    )


def _checked(
    project: Project, name: str, site: Site | None, site_name: str
) -> tuple[LoadedProfile, set[str], list[str]]:
    """Return a profile at a site, the packages of its roles, and all problems of both."""
    loaded = load_profile(project, name)
    wrong = stand_in(project, loaded, site, site_name) if site else []
    packages, wrong_roles = role_packages(project, loaded)
    problems = loaded.problems + wrong + wrong_roles + missing_overlays(project, loaded)
    return loaded, packages, problems


def _measured(project: Project, site: Site | None) -> tuple[_Measured, list[str]]:
    """Return what talks to a TPM, where the site's images do; and every problem with it."""
    if site is None or site.pcr_key is None:
        return _Measured(), []
    packages, wrong = package_list(project, project.image / "packages/tpm.yaml")
    initrd, wrong_initrd = initrd_recipe(project, "initrd-tpm")
    return _Measured(frozenset(packages), initrd), wrong + wrong_initrd


def _driver_packages(profile: Profile, driver: DriverRecipe | None) -> set[str]:
    """Return the packages of the driver that are part of the image itself."""
    if driver is None or profile.gpu is None:
        return set()
    manager = driver.fabric_manager if profile.gpu.fabric_manager else ()
    return {*driver.packages, *manager}


def _abstract(project: Project, node: LoadedProfile) -> list[str]:
    if not node.abstract:
        return []
    usable = [
        name for name in names_in(project.profiles) if not load_profile(project, name).abstract
    ]
    hint = did_you_mean("", usable, "profiles that can be built")
    return [problem(node.file, "abstract", "this profile is only to be extended", hint)]
