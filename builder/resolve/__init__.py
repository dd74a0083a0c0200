"""From a profile and a site to one specification, with every mistake named at once."""

from builder.resolve.schemas import json_schemas, write_schemas
from builder.resolve.shapes import load_shapes
from builder.resolve.specs import ProfileInfo, list_profiles, resolve

__all__ = [
    "ProfileInfo",
    "json_schemas",
    "list_profiles",
    "load_shapes",
    "resolve",
    "write_schemas",
]
