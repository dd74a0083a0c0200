"""`python -m builder.resolve` writes the editors' JSON Schemas to config/schema/."""

from builder.core.paths import Project
from builder.resolve.schemas import write_schemas

write_schemas(Project.find())
