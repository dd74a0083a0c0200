"""Kernel modules and firmware of an image: single files, with what they say of themselves."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from builder.core.hashing import sha256_file
from builder.model.bill import Component

_MODULES = "usr/lib/modules"
_FIRMWARE = "usr/lib/firmware"
_INFO = re.compile(
    rb"\0(license|version|author)=([^\0]{1,200})"
)  # the section .modinfo of a module
_ENDS = (".ko", ".ko.xz", ".ko.zst", ".ko.gz")


def module_components(root: Path, owners: Mapping[str, str]) -> Iterator[Component]:
    """Yield each kernel module and firmware file of the tree.

    `owners` is the key of the component that brings a path; what none brings was made by the
    build, such as a GPU driver's modules. The licence of a module is told as a note: its words
    (MODULE_LICENSE) do not say which versions of the GPL they mean.
    """
    for path in _files(root / _MODULES):
        if path.name.endswith(_ENDS):
            info = _info(path)
            name = path.name.partition(".ko")[0].replace("-", "_")
            notes = {"module-license": info["license"]} if "license" in info else {}
            yield _component("module", name, path, root, owners, info.get("version"), notes)
    for path in _files(root / _FIRMWARE):
        name = str(path.relative_to(root / _FIRMWARE))
        yield _component("firmware", name, path, root, owners, None, {})


def _component(
    kind: str,
    name: str,
    path: Path,
    root: Path,
    owners: Mapping[str, str],
    version: str | None,
    notes: Mapping[str, str],
) -> Component:
    inside = str(path.relative_to(root))
    owner = owners.get(inside)
    return Component.model_validate(
        {
            "key": f"{kind}-{re.sub(r'[^A-Za-z0-9.]+', '-', inside)}",
            "kind": kind,
            "name": name,
            "version": version,
            "sha256": sha256_file(path),
            "part_of": (owner,) if owner else (),
            "notes": {"path": f"/{inside}", **notes},
        }
    )


def _files(folder: Path) -> Iterator[Path]:
    yield from (
        path for path in sorted(folder.rglob("*")) if path.is_file() and not path.is_symlink()
    )


def _info(path: Path) -> dict[str, str]:
    """Return what an uncompressed module says of itself (modinfo(8)); of others nothing."""
    if path.suffix != ".ko":
        return {}
    found = _INFO.findall(path.read_bytes())
    return {key.decode(): value.decode(errors="replace") for key, value in found}
