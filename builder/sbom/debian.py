"""Debian packages of an image: what dpkg says of them, and what their copyright files say."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from debian.copyright import Copyright, NotMachineReadableError
from debian.deb822 import Packages, PkgRelation
from debian.debfile import DebFile
from packageurl import PackageURL

from builder.core.bootstrap import deb_path
from builder.model.bill import Component, LicenceText
from builder.model.lock import LockedPackage
from builder.sbom.licences import all_of, debian_expression, licence_ref

_STATUS = "usr/lib/sysimage/dpkg/status"
_TREES = ("image", "initrd", "container")  # trees of a lock that a node gets
# copyright-format/1.0 is not always kept to: the library says so at length, and reads on.
logging.getLogger("debian.copyright").setLevel(logging.CRITICAL)


@dataclass
class Packaged:
    """Components of Debian packages, and the licences that SPDX does not list."""

    components: list[Component] = field(default_factory=list)
    texts: dict[str, LicenceText] = field(default_factory=dict)


def deb_components(
    packages: tuple[LockedPackage, ...],
    debian: frozenset[int],
    root: Path,
    cache: Path,
    container: str | None,
) -> Packaged:
    """Return the packages that a node gets, in the root, the initrd or the container.

    `debian` are the lock's archives that Debian signs: only what comes from them has a package
    URL. `root` is the image's tree; what is not in it is looked up in the cache's packages.
    `container` is the key of the container, which contains some of them.
    """
    found = Packaged()
    shipped = [one for one in packages if set(one.trees) & set(_TREES)]
    status = _status(root)
    keys = {one.name: deb_key(one) for one in shipped}
    provided = _provided(status, keys)
    for one in shipped:
        fields, copyright_ = _about(one, status, root, cache)
        refs: dict[str, LicenceText] = {}
        licence = licence_of(copyright_, refs)
        found.texts |= refs
        found.components.append(
            Component(
                key=deb_key(one),
                kind="deb",
                name=one.name,
                version=one.version,
                sha256=one.sha256,
                purl=_purl(one) if one.archive in debian else None,
                licence=licence,
                supplier=fields.get("Maintainer"),
                homepage=fields.get("Homepage"),
                summary=fields.get("Description", "").partition("\n")[0] or None,
                part_of=(container,) if container and "image" not in one.trees else (),
                needs=tuple(sorted(set(_needs(fields, provided)) - {deb_key(one)})),
                notes=_notes(one, fields),
            )
        )
    return found


def deb_key(package: LockedPackage) -> str:
    """Return the key of a package: two trees may have two versions of one."""
    return f"deb-{package.name}-{package.version}-{package.arch}".translate(_PLAIN)


_PLAIN = str.maketrans({":": "-", "~": "-", "+": "-", "_": "-"})


def _purl(package: LockedPackage) -> str:
    qualifiers = {"arch": package.arch, "distro": "debian-12"}
    return PackageURL("deb", "debian", package.name, package.version, qualifiers).to_string()


def _notes(package: LockedPackage, fields: Mapping[str, str]) -> dict[str, str]:
    trees = ", ".join(tree for tree in package.trees if tree in _TREES)
    source = fields.get("Source")
    return {"trees": trees, **({"source": source} if source else {})}


def _status(root: Path) -> dict[str, Mapping[str, str]]:
    path = root / _STATUS
    if not path.is_file():
        return {}
    with path.open(encoding="utf-8") as stream:
        return {
            paragraph["Package"]: paragraph
            for paragraph in Packages.iter_paragraphs(stream, use_apt_pkg=False)
        }


def _about(
    package: LockedPackage, status: Mapping[str, Mapping[str, str]], root: Path, cache: Path
) -> tuple[Mapping[str, str], str | None]:
    """Return a package's control fields and copyright file, as far as they are at hand."""
    name = f"usr/share/doc/{package.name}/copyright"
    fields = status.get(package.name)
    if fields is not None and fields.get("Version") == package.version:
        return fields, _text(root / name)
    path = deb_path(cache, package)
    if not path.is_file():
        return {}, None
    with DebFile(str(path)) as deb:
        content = deb.data.get_content(name) if deb.data.has_file(name) else None
        text = content.decode(errors="replace") if isinstance(content, bytes) else None
        return dict(deb.debcontrol()), text


def _text(path: Path) -> str | None:
    """Return a copyright file; it may be a link to that of another package, inside the tree."""
    try:
        return path.read_text(errors="replace") if path.resolve().is_file() else None
    except OSError:
        return None


def licence_of(text: str | None, refs: dict[str, LicenceText]) -> str | None:
    """Return the licences of a copyright file as one expression: all that any file has.

    Those that SPDX does not list are put into `refs`. None: it is not machine-readable.
    """
    if not text or not text.lstrip().startswith(("Format:", "Format-Specification:")):
        return None
    try:
        parsed = Copyright(text.splitlines(keepends=True), strict=False)
        texts = {one.synopsis: one.text for one in _licences(parsed) if one.text}

        def unknown(name: str) -> str:
            body = texts.get(name) or name
            ref = licence_ref(name, body)
            refs[ref] = LicenceText(ref=ref, name=name, text=body)
            return ref

        names = {one.synopsis.strip() for one in _of_files(parsed) if one.synopsis.strip()}
        return all_of(debian_expression(name, unknown) for name in sorted(names))
    except (NotMachineReadableError, ValueError):  # it says it is machine-readable, and is not
        return None


def _of_files(parsed: Copyright) -> Iterator[Any]:
    yield from (part.license for part in parsed.all_files_paragraphs() if part.license)


def _licences(parsed: Copyright) -> Iterator[Any]:
    yield from _of_files(parsed)
    yield from (part.license for part in parsed.all_license_paragraphs() if part.license)


def _provided(status: Mapping[str, Mapping[str, str]], keys: Mapping[str, str]) -> dict[str, str]:
    """Return the key of the package that has, or provides, each name."""
    found = dict(keys)
    for name, fields in sorted(status.items()):
        for group in relations(fields.get("Provides", "")):
            for one in group:
                if name in keys:
                    found.setdefault(one, keys[name])
    return found


def _needs(fields: Mapping[str, str], provided: Mapping[str, str]) -> Iterator[str]:
    """Yield the key of the first alternative that is there, for each dependency."""
    for kind in ("Pre-Depends", "Depends"):
        for group in relations(fields.get(kind, "")):
            there = next((provided[name] for name in group if name in provided), None)
            if there:
                yield there


def relations(text: str) -> list[list[str]]:
    """Return the alternatives of each dependency, by name (deb-control(5))."""
    found = PkgRelation.parse_relations(text) if text.strip() else []
    return [[one["name"] for one in group] for group in found]
