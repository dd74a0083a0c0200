"""Locks what lies outside the root: the container and the model bundles."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterable
from typing import NamedTuple

from builder.core.context import Context
from builder.core.errors import UserError
from builder.core.events import Note
from builder.core.hashing import sha256_file, sha256_value
from builder.core.skopeo import ask_registry
from builder.lock.wheels import lock_wheels, normalised
from builder.model.container import ContainerRecipe, CudaVariant
from builder.model.cuda import minimal_driver
from builder.model.lock import LockedContainer, LockedWheel
from builder.model.spec import Spec

_DIGEST = re.compile(r"sha256:([0-9a-f]{64})")
_ARCHIVE, _REGISTRY = "oci-archive:", "docker://"


def outside_digest(spec: Spec) -> str | None:
    """Return the digest of all that decides what a lock names outside the root, if anything.

    Env, entrypoint, layers and removed paths of a recipe change what is built, not what
    it is built from, and do not count.
    """
    if spec.profile.container is None and not spec.bundles:
        return None
    asked = {"packages": spec.recipe.packages, **_asked(spec)._asdict()} if spec.recipe else None
    bundles = {name: bundle.requirements for name, bundle in spec.bundles.items()}
    return sha256_value([spec.profile.container, asked, bundles, spec.site.wheels.model_dump()])


def lock_container(context: Context, spec: Spec) -> LockedContainer | None:
    """Return exactly what the profile's container is made from; None where it has none.

    Raises UserError when a registry, an archive or a wheel cannot be had.
    """
    source = spec.profile.container
    if source is None:
        return None
    if spec.recipe is not None:
        return LockedContainer(source=source, wheels=_recipe_wheels(context, spec, spec.recipe))
    if source.startswith(_ARCHIVE):
        return LockedContainer(source=source, digest=_archive_digest(context, source))
    return LockedContainer(source=source, digest=_registry_digest(context, spec, source))


def lock_bundles(context: Context, spec: Spec) -> dict[str, tuple[LockedWheel, ...]]:
    """Return for each model bundle of the profile the wheels that it is made from."""
    return {
        name: lock_wheels(context, spec.site, bundle.requirements, needs=False)
        for name, bundle in sorted(spec.bundles.items())
    }


class _Asked(NamedTuple):
    """The wheels that a recipe asks pip for, and those that it leaves out."""

    requirements: tuple[str, ...]
    without: tuple[str, ...]


def _asked(spec: Spec) -> _Asked:
    """Return what the recipe asks for, with its variant for the profile's driver."""
    recipe = spec.recipe
    if recipe is None:
        return _Asked((), ())
    variant = recipe.variant(_branch(spec))
    if variant is None:
        return _Asked(recipe.requirements, recipe.without)
    return _Asked(
        (*recipe.requirements, *variant.requirements), (*recipe.without, *variant.without)
    )


def _branch(spec: Spec) -> str | None:
    return spec.profile.gpu.driver.branch if spec.profile.gpu else None


def _recipe_wheels(
    context: Context, spec: Spec, recipe: ContainerRecipe
) -> tuple[LockedWheel, ...]:
    asked = _asked(spec)
    if not asked.requirements:
        return ()
    context.emit(Note("info", f"resolving the wheels of {spec.profile.container}"))
    if choice := told_choice(recipe, _branch(spec)):
        context.emit(Note("info", choice))
    found = lock_wheels(context, spec.site, asked.requirements)
    dropped = {normalised(name) for name in asked.without}
    unknown = dropped - {wheel.name for wheel in found}
    if unknown:
        context.emit(Note("warning", f"without: {', '.join(sorted(unknown))}: not needed anyway"))
    kept = tuple(wheel for wheel in found if wheel.name not in dropped)
    check_layers(recipe, kept)
    return kept


def told_choice(recipe: ContainerRecipe, branch: str | None) -> str | None:
    """Return a sentence: which variant a driver branch gets, and what newer ones would need."""
    chosen = recipe.variant(branch)
    if chosen is None:
        return None
    told = [f"{_title(chosen)} (CUDA {chosen.cuda}): the newest that driver {branch} runs"]
    told += [
        f"{_title(one)} (CUDA {one.cuda}) needs driver {minimal_driver(one.cuda)} or a newer one"
        for one in sorted(recipe.variants, key=lambda one: one.cuda)
        if one.cuda > chosen.cuda
    ]
    return "; ".join(told)


def _title(variant: CudaVariant) -> str:
    return re.sub("={2,3}", " ", variant.requirements[0])


def check_layers(recipe: ContainerRecipe, wheels: Iterable[LockedWheel]) -> None:
    """Raise UserError when a wheel belongs into no layer of the recipe."""
    globs = [glob for layer in recipe.layers for glob in layer.wheels]
    lost = [w.name for w in wheels if not any(fnmatch.fnmatchcase(w.name, g) for g in globs)]
    if lost:
        raise UserError(
            f"no layer of the container's recipe takes {', '.join(lost)}",
            hint="add their names to a layer, or '*' to the one for all the others",
        )


def _archive_digest(context: Context, source: str) -> str:
    path = context.project.root / source.removeprefix(_ARCHIVE)
    if not path.is_file():
        raise UserError(
            f"container: {path}: there is no such file",
            hint="the name after oci-archive: is relative to the project's folder",
        )
    return sha256_file(path)


def _registry_digest(context: Context, spec: Spec, source: str) -> str:
    if named := _DIGEST.search(source):
        return named[1]
    words = ["inspect", "--no-tags", "--format", "{{.Digest}}", source]
    answer = ask_registry(context.runner, spec.site.proxy.model_dump(), source, *words)
    match = _DIGEST.search(answer)
    if match is None:
        raise UserError(
            f"container: {source}: the registry names no SHA-256 for it",
            hint="write the image's digest yourself: docker://NAME@sha256:…",
        )
    return match[1]
