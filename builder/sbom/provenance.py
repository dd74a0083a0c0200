"""How an image was made: an in-toto statement (v1) with SLSA's provenance (v1).

It names no host, no path and no time of the build: the same inputs give the same bytes. It is
not signed by itself: a release signs it with everything else.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from packageurl import PackageURL

from builder.core.hashing import sha256_value
from builder.model.artifacts import Manifest
from builder.model.lock import Lock, LockedPackage, LockedWheel

# Names, not addresses: nothing has to be reachable (RFC 8141 asks for no more).
BUILD_TYPE = "urn:x-imgbuild:build:1"
_BUILDER = "urn:x-imgbuild:builder"
_STATEMENT = "https://in-toto.io/Statement/v1"
_PREDICATE = "https://slsa.dev/provenance/v1"
_UNSUMMED = "disk.raw"  # mostly holes: its parts are subjects


def provenance_json(
    manifest: Manifest, lock: Lock, debian: frozenset[int], sources: Mapping[str, str], tool: str
) -> str:
    """Return the statement about the image's files.

    `sources` are digests of what the image is built from besides packages: the project's own
    rooms by name, `builder` among them; `tool` is the version of imgbuild.
    """
    statement = {
        "_type": _STATEMENT,
        "subject": _subjects(manifest),
        "predicateType": _PREDICATE,
        "predicate": {
            "buildDefinition": {
                "buildType": BUILD_TYPE,
                "externalParameters": {"profile": manifest.profile, "site": manifest.site},
                "internalParameters": {
                    "imageId": manifest.image_id,
                    "version": manifest.version,
                    "sourceDateEpoch": manifest.epoch,
                },
                "resolvedDependencies": _dependencies(lock, debian, sources),
            },
            "runDetails": {
                "builder": {"id": _BUILDER, "version": {"imgbuild": tool}},
                "metadata": {"invocationId": f"urn:sha256:{_invocation(manifest)}"},
            },
        },
    }
    return json.dumps(statement, indent=1, sort_keys=True) + "\n"


def _subjects(manifest: Manifest) -> list[dict[str, Any]]:
    found = {one.name: one.sha256 for one in manifest.artifacts if one.name != _UNSUMMED}
    found |= {f"layers/{one.name}": one.sha256 for one in manifest.payload.files}
    return [{"name": name, "digest": {"sha256": found[name]}} for name in sorted(found)]


def _invocation(manifest: Manifest) -> str:
    """Return a digest of what makes this build this one; a repetition is the same invocation."""
    return sha256_value([manifest.image_id, manifest.version, manifest.inputs])


def _dependencies(
    lock: Lock, debian: frozenset[int], sources: Mapping[str, str]
) -> list[dict[str, Any]]:
    found = [_own(name, sources[name]) for name in sorted(sources)]
    found.append(_own("lock", sha256_value(lock.model_dump(mode="json"))))
    found += [_deb(one, one.archive in debian) for one in lock.packages]
    container = lock.container
    wheels = [*lock.wheels, *(container.wheels if container else ())]
    wheels += [one for name in sorted(lock.bundles) for one in lock.bundles[name]]
    found += _wheels(wheels)
    if container and container.digest:
        found.append({"name": "container", "digest": {"sha256": container.digest}})
    return found


def _own(name: str, digest: str) -> dict[str, Any]:
    return {"name": name, "digest": {"sha256": digest}, "annotations": {"kind": "own"}}


def _deb(one: LockedPackage, from_debian: bool) -> dict[str, Any]:
    qualifiers = {"arch": one.arch, "distro": "debian-12"}
    purl = PackageURL("deb", "debian", one.name, one.version, qualifiers).to_string()
    return {
        "name": one.file_name,
        **({"uri": purl} if from_debian else {}),
        "digest": {"sha256": one.sha256},
        "annotations": {"kind": "deb", "trees": ",".join(one.trees)},
    }


def _wheels(wheels: Iterable[LockedWheel]) -> list[dict[str, Any]]:
    unique = {one.sha256: one for one in wheels}
    return [
        {
            "name": one.file_name,
            "uri": PackageURL("pypi", None, one.name, one.version).to_string(),
            "digest": {"sha256": one.sha256},
            "annotations": {"kind": "wheel"},
        }
        for one in sorted(unique.values(), key=lambda one: one.file_name)
    ]
