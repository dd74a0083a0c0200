"""Everything of a version that lies outside its root: the container, the model bundles."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from builder.containers.build import build_container
from builder.containers.bundle import build_bundle
from builder.core.context import Context
from builder.core.errors import UserError
from builder.core.sandbox import Sandbox
from builder.model.container import Payload
from builder.model.lock import Lock
from builder.model.spec import Spec


@dataclass(frozen=True)
class MadePayload:
    """What lies outside the root, and where each of its files is (by root hash)."""

    payload: Payload = field(default_factory=Payload)
    paths: dict[str, Path] = field(default_factory=dict)


def build_payload(context: Context, tools: Sandbox, spec: Spec, lock: Lock) -> MadePayload:
    """Return the payload of the lock; it is empty for a profile without a container.

    Packages and wheels of the lock must be in the cache. Raises UserError for what the
    user can mend.
    """
    made = build_container(context, tools, spec, lock)
    if made is None:
        if spec.bundles:
            raise UserError(
                f"profile {spec.profile_name}: models: a bundle is made in a container's root",
                hint="name a container too, or leave the models out",
            )
        return MadePayload()
    files, paths, models = list(made.files), dict(made.paths), []
    for name, recipe in spec.bundles.items():
        wheels = lock.bundles[name]
        bundle, sealed = build_bundle(context, tools, name, recipe, wheels, made.layout)
        models.append(bundle)
        files.append(sealed.file)
        paths[sealed.file.root_hash] = sealed.path
    payload = Payload(container=made.image, models=tuple(models), files=tuple(files))
    return MadePayload(payload, paths)
