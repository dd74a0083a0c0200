"""Loads a profile with everything that it extends."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from builder.core.errors import ConfigError
from builder.model.profile import Profile
from builder.resolve.layers import Layers
from builder.resolve.names import is_name, names_in, wrong_name
from builder.resolve.problems import did_you_mean, problem, shown
from builder.resolve.validation import Rules, validate
from builder.resolve.yamlfile import read_mapping

if TYPE_CHECKING:
    from builder.core.paths import Project

EXTENDS = "extends"
RULES = Rules(Profile, extra_keys=(EXTENDS,))


@dataclass
class LoadedProfile:
    """A profile's merged values and all problems; `value` is None when it is not whole."""

    file: str
    value: Profile | None = None
    layers: Layers = field(default_factory=Layers)
    extends: str | None = None
    abstract: bool = False
    problems: list[str] = field(default_factory=list)


def load_profile(project: Project, name: str) -> LoadedProfile:
    """Return the profile `name`, merged over what it extends; never raises for bad input.

    Problems in any file of the chain are in the result. An abstract profile need not
    be whole.
    """
    loaded = LoadedProfile(file=shown(project, project.profiles / f"{name}.yaml"))
    if wrong := wrong_name("profile", name, project.profiles):
        loaded.problems.append(wrong)
        return loaded
    chain = _chain(project, name, loaded)
    broken = bool(loaded.problems)
    for file, values in reversed(chain):
        loaded.layers.values.pop("abstract", None)
        loaded.layers.origins.pop(("abstract",), None)
        loaded.layers.add({k: v for k, v in values.items() if k != EXTENDS}, file)
    if not chain:
        return loaded
    parent = chain[0][1].get(EXTENDS)
    loaded.extends = parent if isinstance(parent, str) else None
    loaded.abstract = loaded.layers.at("abstract") is True
    partial = broken or loaded.abstract
    loaded.value, found = validate(RULES, loaded.layers, loaded.file, partial=partial)
    loaded.problems += found
    return loaded


def _chain(
    project: Project, name: str, loaded: LoadedProfile
) -> list[tuple[str, dict[str, object]]]:
    """Return the files from `name` up to its last ancestor, adding problems on the way."""
    chain: list[tuple[str, dict[str, object]]] = []
    names: list[str] = []
    while True:
        path = project.profiles / f"{name}.yaml"
        try:
            values = read_mapping(project, path)
        except ConfigError as error:
            loaded.problems += error.problems
            return chain
        file = shown(project, path)
        chain.append((file, values))
        names.append(name)
        parent = values.get(EXTENDS)
        if EXTENDS not in values:
            return chain
        wrong = _wrong_parent(project, file, names, parent)
        if wrong or not isinstance(parent, str):
            loaded.problems += [wrong] if wrong else []
            return chain
        name = parent


def _wrong_parent(project: Project, file: str, names: list[str], parent: object) -> str | None:
    """Return what is wrong with the value of `extends`, if anything."""
    known = [one for one in names_in(project.profiles) if one != names[-1]]
    if not isinstance(parent, str) or not is_name(parent):
        return problem(
            file, EXTENDS, f"{parent!r} is not the name of a profile", "write the name of one"
        )
    if parent in names:
        circle = " → ".join([*names[names.index(parent) :], parent])
        return problem(file, EXTENDS, f"goes in a circle: {circle}", "remove one `extends`")
    if parent not in known:
        hint = did_you_mean(parent, known, "profiles")
        return problem(file, EXTENDS, f"there is no profile '{parent}'", hint)
    return None
