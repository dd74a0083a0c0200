"""Looks up the recipes that a profile names: its container's and its model bundles'."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from builder.core.errors import ConfigError
from builder.model.container import BundleRecipe, ContainerRecipe
from builder.resolve.layers import Layers
from builder.resolve.names import is_name
from builder.resolve.problems import did_you_mean, dotted, problem, shown
from builder.resolve.validation import Model, Rules, validate
from builder.resolve.yamlfile import read_mapping

if TYPE_CHECKING:
    from pathlib import Path

    from builder.core.paths import Project
    from builder.resolve.profiles import LoadedProfile

CONTAINER = Rules(ContainerRecipe)
BUNDLE = Rules(BundleRecipe)
_PREFIX = "recipe:"
_FILE = "recipe.yaml"


@dataclass(frozen=True)
class Recipes:
    """What a profile's recipes say."""

    container: ContainerRecipe | None = None
    bundles: dict[str, BundleRecipe] = field(default_factory=dict)


def load_recipes(project: Project, profile: LoadedProfile) -> tuple[Recipes, list[str]]:
    """Return the recipes that a profile names, and every problem with them."""
    container, problems = _container(project, profile)
    bundles: dict[str, BundleRecipe] = {}
    names = profile.layers.at("models")
    for index, name in enumerate(names if isinstance(names, list) else []):
        if not is_name(name):
            continue  # validation says so
        folder = project.image / "models"
        found, wrong = _load(project, profile, ("models", index), folder, name, BUNDLE)
        problems += wrong
        if found is not None:
            bundles[name] = found
    if bundles and profile.layers.at("container") is None:
        fact = "model bundles are made by the container, and there is none"
        hint = "set `container`, or remove `models`"
        problems.append(
            problem(profile.layers.origin(("models",), profile.file), "models", fact, hint)
        )
    return Recipes(container, bundles), problems


def _container(
    project: Project, profile: LoadedProfile
) -> tuple[ContainerRecipe | None, list[str]]:
    source = profile.layers.at("container")
    if not isinstance(source, str) or not source.startswith(_PREFIX):
        return None, []
    name = source.removeprefix(_PREFIX)
    if not is_name(name):
        return None, []  # validation says so
    folder = project.image / "containers"
    recipe, problems = _load(project, profile, ("container",), folder, name, CONTAINER)
    if recipe is not None:
        problems += _layers(shown(project, folder / name / _FILE), recipe)
        problems += _variants(shown(project, folder / name / _FILE), recipe)
        problems += _unfit(profile, recipe)
    return recipe, problems


def _load(
    project: Project,
    profile: LoadedProfile,
    loc: tuple[str | int, ...],
    folder: Path,
    name: str,
    rules: Rules[Model],
) -> tuple[Model | None, list[str]]:
    """Return the recipe in `folder/name`, named by the profile at `loc`, and its problems."""
    known = sorted(path.parent.name for path in folder.glob(f"*/{_FILE}"))
    path = folder / name / _FILE
    if name not in known:
        where = profile.layers.origin(loc, profile.file)
        fact = f"there is no {shown(project, path)}"
        return None, [problem(where, dotted(loc), fact, did_you_mean(name, known, "recipes"))]
    layers = Layers()
    try:
        layers.add(read_mapping(project, path), shown(project, path))
    except ConfigError as error:
        return None, list(error.problems)
    return validate(rules, layers, shown(project, path))


def _layers(file: str, recipe: ContainerRecipe) -> list[str]:
    """Return what is wrong with a recipe's layers as a whole."""
    names = [layer.name for layer in recipe.layers]
    problems = [
        problem(file, dotted(("layers", index, "name")), f"there are two layers '{name}'")
        for index, name in enumerate(names)
        if name in names[:index]
    ]
    if (recipe.requirements or recipe.variants) and not recipe.layers:
        hint = "add `layers: [{name: libraries, wheels: ['*']}]`"
        problems.append(problem(file, "layers", "there is no layer for the wheels", hint))
    return problems


def _variants(file: str, recipe: ContainerRecipe) -> list[str]:
    majors = [variant.cuda for variant in recipe.variants]
    return [
        problem(file, dotted(("variants", index, "cuda")), f"there are two variants for {major}")
        for index, major in enumerate(majors)
        if major in majors[:index]
    ]


def _unfit(profile: LoadedProfile, recipe: ContainerRecipe) -> list[str]:
    """Return why the profile's GPU driver runs none of the recipe's variants, if so."""
    if profile.value is None or profile.abstract:
        return []
    gpu = profile.value.gpu
    try:
        recipe.variant(gpu.driver.branch if gpu else None)
    except ValueError as error:
        where = profile.layers.origin(("container",), profile.file)
        hint = "set gpu.driver.branch, or another container"
        return [problem(where, "container", str(error), hint)]
    return []
