"""JSON Schemas of the configuration files, for editors.

`python -m builder.resolve` writes them to config/schema/.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from builder.model.container import BundleRecipe, ContainerRecipe
from builder.model.driver import DriverRecipe
from builder.model.profile import Profile
from builder.model.shapes import Shapes
from builder.model.site import Site
from builder.resolve.profiles import EXTENDS
from imgnode import backupconfig, cloudkeys, inference

if TYPE_CHECKING:
    from pathlib import Path

    from builder.core.paths import Project

_DIALECT = "https://json-schema.org/draft/2020-12/schema"


def json_schemas() -> dict[str, dict[str, Any]]:
    """Return the JSON Schemas by the kind of file.

    `container`, `bundle` and `driver` are recipes. No key of a profile is required,
    since another profile may set it.
    """
    return {
        "profile": {"$schema": _DIALECT, **_profile()},
        "site": {"$schema": _DIALECT, **Site.model_json_schema()},
        "seed": {"$schema": _DIALECT, **_seed()},
        "models": {"$schema": _DIALECT, **Shapes.model_json_schema()},
        "container": {"$schema": _DIALECT, **ContainerRecipe.model_json_schema()},
        "bundle": {"$schema": _DIALECT, **BundleRecipe.model_json_schema()},
        "driver": {"$schema": _DIALECT, **DriverRecipe.model_json_schema()},
    }


def schema_text(name: str) -> str:
    """Return the text of `config/schema/NAME.json`."""
    return json.dumps(json_schemas()[name], indent=2, ensure_ascii=False) + "\n"


def write_schemas(project: Project) -> list[Path]:
    """Write all schemas to `config/schema/` and return the files."""
    folder = project.root / "config" / "schema"
    folder.mkdir(parents=True, exist_ok=True)
    written = [folder / f"{name}.json" for name in json_schemas()]
    for path in written:
        path.write_text(schema_text(path.stem), encoding="utf-8")
    return written


def _profile() -> dict[str, Any]:
    schema = Profile.model_json_schema()
    for part in (schema, *schema["$defs"].values()):
        part.pop("required", None)
    parent = {"description": "the profile that this one is laid over", "type": "string"}
    schema["properties"] = {EXTENDS: parent, **schema["properties"]}
    return schema


def _seed() -> dict[str, Any]:
    return {
        "title": "Seed",
        "description": "user-data of one node: cloud-init's keys that the image acts on, and ours",
        "type": "object",
        "properties": {
            **cloudkeys.user_schema(),
            inference.KEY: inference.schema(),
            backupconfig.KEY: backupconfig.schema(),
        },
        "additionalProperties": False,
    }
