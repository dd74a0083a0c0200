"""What is different between two images, and what an update from one to the other moves."""

from __future__ import annotations

from collections.abc import Mapping

from builder.compare.parts import parts
from builder.model.artifacts import InstalledPackage, Manifest
from builder.model.container import ContainerImage
from builder.model.difference import Difference, Fact, Fate, Kind, Moved, PackageChange, Part

_COMMON = ("amd64", "all")  # architectures that need not be told


def compare(old: Manifest, new: Manifest) -> Difference:
    """Return the difference between two images; `new` is what a node with `old` updates to."""
    before, after = parts(old), parts(new)
    have = {one.content for one in before}
    missing = [one for one in after if one.content not in have]
    packages, same = _packages(old, new)
    return Difference(
        facts=_facts(old, new),
        packages=packages,
        packages_same=same,
        files=_fates(before, after),
        update=tuple(
            Moved(kind=kind, bytes=_sum(missing, kind), of=_sum(after, kind))
            for kind in dict.fromkeys(one.kind for one in after)
        ),
        update_bytes=sum(one.bytes for one in missing),
        full_bytes=sum(one.bytes for one in after),
    )


def _sum(some: list[Part] | tuple[Part, ...], kind: Kind) -> int:
    return sum(one.bytes for one in some if one.kind == kind)


def _facts(old: Manifest, new: Manifest) -> tuple[Fact, ...]:
    told = {one: _told(manifest) for one, manifest in (("old", old), ("new", new))}
    return tuple(
        Fact(name=name, old=told["old"][name], new=told["new"][name]) for name in told["old"]
    )


def _told(manifest: Manifest) -> dict[str, str | None]:
    return {
        "image": manifest.image_id,
        "version": manifest.version,
        "profile": manifest.profile,
        "site": manifest.site,
        "root hash": manifest.root_hash,
        "kernel": manifest.kernel_release,
        "driver": manifest.driver.version if manifest.driver else None,
        "container": _container(manifest.payload.container),
    }


def _container(image: ContainerImage | None) -> str | None:
    return f"{image.repository}@sha256:{image.digest}" if image else None


def _packages(old: Manifest, new: Manifest) -> tuple[tuple[PackageChange, ...], int]:
    before, after = packages_by_name(old), packages_by_name(new)
    changes, same = [], 0
    for name in sorted(before.keys() | after.keys()):
        was, is_now = before.get(name), after.get(name)
        if was and is_now and (was.version, was.sha256) == (is_now.version, is_now.sha256):
            same += 1
            continue
        versions = was.version if was else None, is_now.version if is_now else None
        rebuilt = versions[0] == versions[1]
        changes.append(PackageChange(name=name, old=versions[0], new=versions[1], rebuilt=rebuilt))
    return tuple(changes), same


def packages_by_name(manifest: Manifest) -> Mapping[str, InstalledPackage]:
    """Return the packages by name, with the architecture where it is not the usual one."""
    return {
        one.name if one.arch in _COMMON else f"{one.name}:{one.arch}": one
        for one in manifest.packages
    }


def _fates(before: tuple[Part, ...], after: tuple[Part, ...]) -> tuple[Fate, ...]:
    """Return the layers and models of the new image in its order, then those that went."""
    had, has = {one.content for one in before}, {one.content for one in after}
    fates = [Fate(part=one, fate="shared" if one.content in had else "new") for one in after]
    fates += [Fate(part=one, fate="gone") for one in before if one.content not in has]
    return tuple(one for one in fates if one.part.kind in ("layer", "model"))
