"""Turns package names into a lock: exact versions and digests, as APT resolves them."""

from __future__ import annotations

import re
from urllib.parse import unquote

from builder.core.context import Context
from builder.core.errors import UserError
from builder.core.hashing import sha256_value
from builder.lock.aptenv import AptEnv, prepare
from builder.lock.indexes import Index, list_indexes, release_date
from builder.lock.minimum import check_minimum
from builder.lock.only import Hidden, check_addresses, check_only, hide_others
from builder.lock.outside import lock_bundles, lock_container, outside_digest
from builder.lock.wheels import lock_wheels
from builder.model.lock import Lock, LockedArchive, LockedPackage, LockedSuite, TreeName
from builder.model.spec import Spec

_LINE = re.compile(r"'(?P<url>[^']+)' (?P<file>\S+) (?P<size>\d+) SHA256:(?P<sha256>[0-9a-f]{64})")

_ESSENTIAL = "?essential"
_MERGED = "usr-is-merged"  # or mmdebstrap makes one of its own, which no lock names


def request_digest(spec: Spec) -> str:
    """Return the digest of everything that decides what a lock names for the root."""
    archives = [a.model_dump(exclude={"keyring"}) for a in spec.site.archives]
    pins = [pin.model_dump() for pin in spec.site.pins]
    wheels = _node_wheels(spec)
    more = [wheels, spec.site.wheels.model_dump()] if wheels else []
    return sha256_value([_root_requests(spec), archives, pins, spec.site.minimum, *more])


def resolve_lock(context: Context, spec: Spec) -> Lock:
    """Ask the site's archives for the newest fitting version of every package.

    Wheels and container images are locked as well. Raises UserError when an archive cannot
    be reached or trusted, or a package is missing, too old, or from an archive that may not
    give it.
    """
    with context.cache.workspace("lock") as work:
        apt = prepare(context.runner, spec.site, context.project.sites, work / "apt")
        check_addresses(spec.site, apt.bases)
        apt.run("apt-get", "update", "-qq", "-o", "APT::Update::Error-Mode=any")
        indexes = list_indexes(apt)
        archives = _archives(apt, spec, indexes)
        hidden = hide_others(spec.site, apt.bases, indexes)
        found: dict[str, LockedPackage] = {}
        for tree, names in _requests(spec).items():
            for package in _closure(apt, names, tree, hidden):
                known = found.get(package.file_name)
                trees = (*known.trees, tree) if known else (tree,)
                found[package.file_name] = package.model_copy(update={"trees": trees})
    packages = tuple(found[name] for name in sorted(found))
    check_only(spec.site, packages)
    check_minimum(context.runner, spec.site, packages)
    wheels = _node_wheels(spec)
    return Lock(
        outside=outside_digest(spec),
        container=lock_container(context, spec),
        bundles=lock_bundles(context, spec),
        profile=spec.profile_name,
        site=spec.site_name,
        request=request_digest(spec),
        epoch=max(suite.date for archive in archives for suite in archive.suites),
        archives=archives,
        packages=packages,
        wheels=lock_wheels(context, spec.site, wheels, needs=False) if wheels else (),
    )


def _node_wheels(spec: Spec) -> tuple[str, ...]:
    return spec.driver.wheels if spec.driver else ()


def _requests(spec: Spec) -> dict[TreeName, list[str]]:
    requests = _root_requests(spec)
    if spec.recipe:
        requests["container"] = [_ESSENTIAL, _MERGED, *spec.recipe.packages]
    return requests


def _root_requests(spec: Spec) -> dict[TreeName, list[str]]:
    requests: dict[TreeName, list[str]] = {
        "image": [_ESSENTIAL, *spec.packages],
        "initrd": list(spec.initrd.packages),
        "installer": list(spec.initrd.with_more(spec.installer).packages),
        "tools": [_ESSENTIAL, *spec.tools],
    }
    if spec.driver and spec.profile.gpu:
        modules = spec.driver.modules[spec.profile.gpu.driver.modules]
        requests["driver"] = [_ESSENTIAL, _MERGED, spec.driver.headers, *modules]
    return requests


def _closure(apt: AptEnv, names: list[str], tree: TreeName, hidden: Hidden) -> list[LockedPackage]:
    words = ["install", "--print-uris", "-q", "-y", "-o", "Acquire::ForceHash=SHA256", *names]
    try:
        listing = apt.run("apt-get", *words)
    except UserError as error:
        raise hidden.explained(error) from None
    return [
        _package(apt, line, tree) for line in listing.stdout.splitlines() if line.startswith("'")
    ]


def _package(apt: AptEnv, line: str, tree: TreeName) -> LockedPackage:
    match = _LINE.fullmatch(line.strip())
    if match is None:
        raise UserError(
            f"APT names a package without a SHA-256: {line}",
            hint="the archive's index is too old a format to be locked",
        )
    url = match["url"]
    fitting = [i for i, base in enumerate(apt.bases) if url.startswith(base + "/")]
    archive = max(fitting, key=lambda i: (len(apt.bases[i]), -i))  # the innermost, then the first
    name, version, arch = match["file"].removesuffix(".deb").split("_")
    return LockedPackage(
        name=name,
        version=unquote(version),
        arch=arch,
        archive=archive,
        path=url.removeprefix(apt.bases[archive] + "/").removeprefix("./"),
        size=int(match["size"]),
        sha256=match["sha256"],
        trees=(tree,),
    )


def _archives(apt: AptEnv, spec: Spec, indexes: list[Index]) -> tuple[LockedArchive, ...]:
    dates = {(index.base, index.suite): index.release for index in indexes}
    return tuple(
        LockedArchive(
            uri=archive.uri,
            suites=tuple(
                LockedSuite(suite=suite, date=release_date(dates[base, suite].read_text()))
                for suite in archive.suites
            ),
        )
        for archive, base in zip(spec.site.archives, apt.bases, strict=True)
    )
