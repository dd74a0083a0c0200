"""Images that others have made: from a registry or an archive file, by digest."""

from __future__ import annotations

import re
from pathlib import Path

from builder.core.cache import Stage
from builder.core.context import Context
from builder.core.errors import UserError
from builder.core.events import Note
from builder.core.hashing import sha256_file
from builder.core.sandbox import Sandbox
from builder.core.skopeo import ask_registry
from builder.model.lock import Lock, LockedContainer
from builder.model.spec import Spec

REGISTRY, ARCHIVE = "docker://", "oci-archive:"
_NAME = re.compile(r"(?P<name>.+?)(:(?P<tag>[^:/@]+))?(@sha256:(?P<digest>[0-9a-f]{64}))?")
_MACHINE = ("--override-os=linux", "--override-arch=amd64")


def fetch_image(context: Context, spec: Spec, lock: Lock) -> None:
    """Bring the registry's image of the lock, if it names one, into the cache.

    Raises UserError when it cannot be had.
    """
    locked = lock.container
    if locked and spec.recipe is None and locked.source.startswith(REGISTRY):
        context.cache.get(_stage(locked), lambda to: _from_registry(context, spec, locked, to))


def fetch_layout(context: Context, tools: Sandbox, spec: Spec, locked: LockedContainer) -> Path:
    """Return the folder with the image layout of an image that the lock names by digest.

    Raises UserError when it cannot be had, or is not what the lock says.
    """

    def make(folder: Path) -> None:
        if locked.source.startswith(ARCHIVE):
            _from_archive(context, tools, locked, folder)
        else:
            _from_registry(context, spec, locked, folder)

    return context.cache.get(_stage(locked), make)


def _stage(locked: LockedContainer) -> Stage:
    inputs = {"digest": locked.digest, "from": locked.source}
    return Stage("container-oci", inputs, Path(__file__))


def repository(source: str) -> tuple[str, str | None]:
    """Return the name that Docker knows a registry's image by, and the tag, if it has one."""
    match = _NAME.fullmatch(source.removeprefix(REGISTRY))
    name, tag = (match["name"], match["tag"]) if match else (source, None)
    return name.removeprefix("docker.io/").removeprefix("library/"), tag


def _from_registry(context: Context, spec: Spec, locked: LockedContainer, folder: Path) -> None:
    match = _NAME.fullmatch(locked.source.removeprefix(REGISTRY))
    name = match["name"] if match else locked.source
    exact = f"{REGISTRY}{name}@sha256:{locked.digest}"
    context.emit(Note("info", f"fetching {exact}"))
    words = [*_MACHINE, "copy", "--quiet", exact, f"oci:{folder}:image"]
    ask_registry(context.runner, spec.site.proxy.model_dump(), locked.source, *words)


def _from_archive(context: Context, tools: Sandbox, locked: LockedContainer, folder: Path) -> None:
    archive = context.project.root / locked.source.removeprefix(ARCHIVE)
    actual = sha256_file(archive) if archive.is_file() else "none, it is missing"
    if actual != locked.digest:
        raise UserError(
            f"container: {archive}: SHA-256 is {actual}, the lock says {locked.digest}",
            hint="lock anew where it was replaced on purpose: imgbuild lock -p PROFILE",
        )
    words: list[str | Path] = [
        "--insecure-policy",
        *_MACHINE,
        "--tmpdir",
        folder,
        "copy",
        "--quiet",
    ]
    tools.run(
        ["skopeo", *words, f"{ARCHIVE}{archive}", f"oci:{folder}:image"],
        write=[folder],
        read=[archive],
    )
