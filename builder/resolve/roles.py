"""Looks up what a profile names: package roles in image/, folders in overlays/."""

from __future__ import annotations

from typing import TYPE_CHECKING

from builder.core.errors import ConfigError
from builder.model.spec import InitrdRecipe
from builder.resolve.layers import Layers
from builder.resolve.names import is_name, names_in
from builder.resolve.problems import did_you_mean, dotted, problem, shown
from builder.resolve.validation import Rules, package_names, validate
from builder.resolve.yamlfile import read_list, read_mapping

if TYPE_CHECKING:
    from pathlib import Path

    from builder.core.paths import Project
    from builder.resolve.profiles import LoadedProfile

INITRD = Rules(InitrdRecipe)


def role_packages(project: Project, profile: LoadedProfile) -> tuple[set[str], list[str]]:
    """Return the packages of all roles that a profile names, and every problem with them."""
    folder = project.image / "packages"
    known = names_in(folder)
    packages: set[str] = set()
    problems: list[str] = []
    for index, role in _names(profile, "packages", "roles"):
        if role in known:
            found, wrong = package_list(project, folder / f"{role}.yaml")
            packages.update(found)
            problems += wrong
        else:
            fact = f"there is no role '{role}' in image/packages/"
            hint = did_you_mean(role, known, "roles")
            problems.append(_at(profile, ("packages", "roles", index), fact, hint))
    return packages, problems


def missing_overlays(project: Project, profile: LoadedProfile) -> list[str]:
    """Return a problem for each overlay that a profile names and that is no folder."""
    known = _folders(project.overlays)
    return [
        _at(
            profile,
            ("overlays", index),
            f"there is no folder '{name}' in overlays/",
            did_you_mean(name, known, "overlays"),
        )
        for index, name in _names(profile, "overlays")
        if name not in known
    ]


def package_list(project: Project, path: Path) -> tuple[list[str], list[str]]:
    """Return the package names in a list file, and every problem with it."""
    try:
        entries = read_list(project, path)
    except ConfigError as error:
        return [], list(error.problems)
    return package_names(shown(project, path), entries)


def initrd_recipe(project: Project, name: str) -> tuple[InitrdRecipe | None, list[str]]:
    """Return what `image/NAME.yaml` says: the initrd, the installer; and its problems."""
    path = project.image / f"{name}.yaml"
    layers = Layers()
    try:
        layers.add(read_mapping(project, path), shown(project, path))
    except ConfigError as error:
        return None, list(error.problems)
    return validate(INITRD, layers, shown(project, path))


def _names(profile: LoadedProfile, *loc: str) -> list[tuple[int, str]]:
    """Return the usable names in a list, with their index; validation reports the others."""
    entries = profile.layers.at(*loc)
    if not isinstance(entries, list):
        return []
    return [(index, entry) for index, entry in enumerate(entries) if is_name(entry)]


def _folders(root: Path) -> list[str]:
    return sorted(path.name for path in root.iterdir() if path.is_dir()) if root.is_dir() else []


def _at(profile: LoadedProfile, loc: tuple[str | int, ...], fact: str, hint: str) -> str:
    return problem(profile.layers.origin(loc, profile.file), dotted(loc), fact, hint)
