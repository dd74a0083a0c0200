"""Reads `config/models.yaml`: how large models are inside."""

from __future__ import annotations

from typing import TYPE_CHECKING

from builder.core.errors import ConfigError
from builder.model.shapes import Shape, Shapes
from builder.resolve.layers import Layers
from builder.resolve.problems import shown
from builder.resolve.validation import Rules, validate
from builder.resolve.yamlfile import read_mapping

if TYPE_CHECKING:
    from builder.core.paths import Project


def load_shapes(project: Project) -> dict[str, Shape]:
    """Return the known models by name; none where there is no file. Raises ConfigError."""
    path = project.root / "config" / "models.yaml"
    if not path.exists():
        return {}
    file = shown(project, path)
    layers = Layers()
    layers.add(read_mapping(project, path), file)
    value, problems = validate(Rules(Shapes), layers, file)
    if value is None:
        raise ConfigError(problems)
    return value.models
