"""Loads a site: one file, nothing extended."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from builder.core.errors import ConfigError
from builder.model.site import Site
from builder.resolve.layers import Layers
from builder.resolve.names import wrong_name
from builder.resolve.problems import shown
from builder.resolve.validation import Rules, validate
from builder.resolve.yamlfile import read_mapping

if TYPE_CHECKING:
    from builder.core.paths import Project

RULES = Rules(Site)


@dataclass
class LoadedSite:
    """A site and all problems of its file; `value` is None when there are any."""

    value: Site | None = None
    layers: Layers = field(default_factory=Layers)
    problems: list[str] = field(default_factory=list)


def load_site(project: Project, name: str) -> LoadedSite:
    """Return the site `name`; never raises for bad input, its problems are in the result.

    Whether its keyrings exist is not looked at.
    """
    loaded = LoadedSite()
    if wrong := wrong_name("site", name, project.sites):
        loaded.problems.append(wrong)
        return loaded
    path = project.sites / f"{name}.yaml"
    try:
        loaded.layers.add(read_mapping(project, path), shown(project, path))
    except ConfigError as error:
        loaded.problems += error.problems
        return loaded
    loaded.value, found = validate(RULES, loaded.layers, shown(project, path))
    loaded.problems += found
    return loaded
