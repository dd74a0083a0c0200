"""Whether what tells of an image tells of this one: lock, provenance, bills of materials."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from builder.model.artifacts import CYCLONEDX, LOCK, PROVENANCE, SPDX, Manifest
from builder.model.lock import Lock

_OTHER = "tells of another image"
_DISK = "disk.raw"  # mostly holes: its parts are named


def fault(path: Path, manifest: Manifest) -> str | None:
    """Return what is wrong with a document of an image; None when it is of this one."""
    try:
        return _CHECKS[path.name](path.read_bytes(), manifest)
    except ValidationError:
        return "is no lock"
    except (ValueError, KeyError, TypeError, AttributeError, OSError):
        return "cannot be understood"


def _lock(data: bytes, manifest: Manifest) -> str | None:
    fits = manifest.is_built_from(Lock.model_validate_json(data))
    return None if fits else "is not the lock that the image was built from"


def _provenance(data: bytes, manifest: Manifest) -> str | None:
    said = json.loads(data)
    inner = said["predicate"]["buildDefinition"]["internalParameters"]
    told = {(one["name"], one["digest"]["sha256"]) for one in said["subject"]}
    files = {(one.name, one.sha256) for one in manifest.artifacts if one.name != _DISK}
    files |= {(f"layers/{one.name}", one.sha256) for one in manifest.payload.files}
    named = (inner["imageId"], inner["version"])
    return None if told == files and _is_of(manifest, *named) else _OTHER


def _cyclonedx(data: bytes, manifest: Manifest) -> str | None:
    said = json.loads(data)
    image = said["metadata"]["component"]
    if not _is_of(manifest, image["name"], image["version"]):
        return _OTHER
    return _lacking(_hashes(said["components"], "hashes", "content"), manifest)


def _spdx(data: bytes, manifest: Manifest) -> str | None:
    packages = json.loads(data)["packages"]
    if not any(_is_of(manifest, one["name"], one.get("versionInfo")) for one in packages):
        return _OTHER
    return _lacking(_hashes(packages, "checksums", "checksumValue"), manifest)


def _is_of(manifest: Manifest, image_id: str, version: str | None) -> bool:
    return (image_id, version) == (manifest.image_id, manifest.version)


def _hashes(components: Iterable[dict[str, Any]], key: str, value: str) -> set[str]:
    return {one[value] for component in components for one in component.get(key, ())}


def _lacking(told: set[str], manifest: Manifest) -> str | None:
    """Return which package or layer file of the image a bill does not name."""
    wanted = {one.sha256: one.name for one in manifest.packages}
    wanted |= {one.sha256: one.name for one in manifest.payload.files}
    missing = sorted(wanted[digest] for digest in wanted.keys() - told)
    return f"does not name {missing[0]} of the image" if missing else None


_CHECKS: dict[str, Callable[[bytes, Manifest], str | None]] = {
    LOCK: _lock,
    PROVENANCE: _provenance,
    CYCLONEDX: _cyclonedx,
    SPDX: _spdx,
}
