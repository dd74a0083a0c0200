"""Whether an image that was built again is the first one, byte by byte; and where it is not."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from builder.model.artifacts import CYCLONEDX, LOCK, PROVENANCE, SPDX, Manifest
from builder.model.base import MIB

_MANIFEST, _MAP = "manifest.json", "disk.raw.bmap"
_LAYERS = "layers"
_BLOCK = 4096
NOT_REBUILT = (SPDX, CYCLONEDX)  # imgbuild sbom makes them, of the finished image


@dataclass(frozen=True)
class Verdict:
    """What became of one file: `same`, and otherwise what differs."""

    name: str
    same: bool
    told: str


@dataclass(frozen=True)
class _Gap:
    """How two files differ: the first byte that does, and how many blocks of all."""

    first: int
    blocks: int
    total: int


def compare_rebuilt(old: Path, new: Path, before: Manifest, after: Manifest) -> list[Verdict]:
    """Return a verdict on each file of the first image, in the folders `old` and `new`.

    A file that a release does not bring, such as the initrd, is judged by the manifests.
    """
    digests = {one.name: one.sha256 for one in before.artifacts}
    again = {one.name: one.sha256 for one in after.artifacts}
    found = []
    for name in _names(old, before):
        if not (new / name).is_file():
            found.append(Verdict(name, same=False, told="is not made any more"))
        elif (old / name).is_file():
            gap = _gap(old / name, new / name)
            found.append(Verdict(name, gap is None, _told(gap, name, before)))
        else:
            same = digests.get(name) == again.get(name)
            found.append(Verdict(name, same, _DIGEST if same else f"another {_DIGEST}"))
    return found


_DIGEST = "digest in manifest.json (the file is not part of a release)"


def _names(old: Path, manifest: Manifest) -> Iterator[str]:
    yield from (one.name for one in manifest.artifacts)
    yield from (name for name in (manifest.disk.name, _MAP) if (old / name).is_file())
    yield from (f"{_LAYERS}/{one.name}" for one in manifest.payload.files)
    yield from (name for name in (_MANIFEST, PROVENANCE, LOCK) if (old / name).is_file())


def _gap(old: Path, new: Path) -> _Gap | None:
    """Compare two files to their ends; return None when they are the same."""
    sizes = old.stat().st_size, new.stat().st_size
    first, blocks = None, 0
    with old.open("rb") as left, new.open("rb") as right:
        for start in count(0, MIB):
            a, b = left.read(MIB), right.read(MIB)
            if not a and not b:
                break
            if a == b:
                continue
            blocks += sum(
                a[at : at + _BLOCK] != b[at : at + _BLOCK] for at in range(0, MIB, _BLOCK)
            )
            first = start + _first(a, b) if first is None else first
    return None if first is None else _Gap(first, blocks, -(-max(sizes) // _BLOCK))


def _first(left: bytes, right: bytes) -> int:
    """Return where two byte strings begin to differ; one may be the start of the other."""
    pairs = enumerate(zip(left, right, strict=False))
    return next((at for at, (a, b) in pairs if a != b), min(len(left), len(right)))


def _told(gap: _Gap | None, name: str, manifest: Manifest) -> str:
    if gap is None:
        return ""
    where = ""
    if name == manifest.disk.name:
        inside = [p for p in manifest.disk.partitions if p.offset <= gap.first < p.offset + p.bytes]
        where = f" ({inside[0].type} {inside[0].label})" if inside else " (partition table)"
    return f"from byte {gap.first}{where} on, {gap.blocks} of {gap.total} blocks of 4 KiB"
