"""The editors' schemas are fresh, closed, and ask for nothing that a parent may set."""

from __future__ import annotations

from pathlib import Path

import pytest

from builder.core.paths import Project
from builder.resolve import json_schemas, write_schemas
from builder.resolve.schemas import schema_text

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("name", list(json_schemas()))
def test_the_files_are_fresh(name: str) -> None:
    path = ROOT / "config" / "schema" / f"{name}.json"
    fresh = path.is_file() and path.read_text(encoding="utf-8") == schema_text(name)
    assert fresh, f"{path} is stale: run `python -m builder.resolve`"


def test_profile_schema() -> None:
    schema = json_schemas()["profile"]
    assert schema["properties"]["extends"]["type"] == "string"
    parts = [schema, *schema["$defs"].values()]
    assert all("required" not in part for part in parts)
    assert all(part["additionalProperties"] is False for part in parts)


def test_site_schema_requires_archives() -> None:
    assert json_schemas()["site"]["required"] == ["description", "archives"]


def test_seed_schema_is_closed_and_has_ours() -> None:
    schema = json_schemas()["seed"]
    assert schema["additionalProperties"] is False
    assert {"hostname", "ssh_authorized_keys", "inference"} <= set(schema["properties"])


def test_write_schemas_creates_the_folder(tmp_path: Path) -> None:
    written = write_schemas(Project(tmp_path))
    assert [path.name for path in written] == [
        "profile.json",
        "site.json",
        "seed.json",
        "models.json",
        "container.json",
        "bundle.json",
        "driver.json",
    ]
    assert written[0].read_text(encoding="utf-8") == schema_text("profile")
