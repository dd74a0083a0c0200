"""Looks up the GPU driver that a profile asks for and a site has."""

from __future__ import annotations

from typing import TYPE_CHECKING

from builder.core.errors import ConfigError
from builder.model.driver import DriverRecipe
from builder.resolve.layers import Layers
from builder.resolve.names import names_in
from builder.resolve.problems import did_you_mean, problem, shown
from builder.resolve.validation import Rules, validate
from builder.resolve.yamlfile import read_mapping

if TYPE_CHECKING:
    from builder.core.paths import Project
    from builder.model.profile import Profile
    from builder.resolve.sites import LoadedSite

DRIVER = Rules(DriverRecipe)


def load_driver(
    project: Project, profile: Profile | None, site: LoadedSite, site_name: str
) -> tuple[DriverRecipe | None, list[str]]:
    """Return the recipe of the site's driver where the profile has GPUs, and every problem."""
    if profile is None or profile.gpu is None or site.value is None:
        return None, []
    name = site.value.gpu.driver
    path = project.image / "drivers" / f"{name}.yaml"
    where = site.layers.origin(
        ("gpu", "driver"), shown(project, project.sites / f"{site_name}.yaml")
    )
    if not path.is_file():
        hint = did_you_mean(name, names_in(path.parent), "drivers")
        return None, [problem(where, "gpu.driver", f"there is no {shown(project, path)}", hint)]
    layers = Layers()
    try:
        layers.add(read_mapping(project, path), shown(project, path))
    except ConfigError as error:
        return None, list(error.problems)
    recipe, problems = validate(DRIVER, layers, shown(project, path))
    if recipe is None:
        return None, problems
    return recipe, _lacking(profile, recipe, where, name)


def _lacking(profile: Profile, recipe: DriverRecipe, where: str, name: str) -> list[str]:
    """Return what the profile's GPUs need and the site's driver has not."""
    kind = profile.gpu.driver.modules if profile.gpu else None
    if kind is None or kind in recipe.modules:
        return []
    fact = f"driver '{name}' has no {kind} modules, which the profile asks for"
    return [problem(where, "gpu.driver", fact, "set gpu.driver.modules of the profile")]
