"""Building again: what differs is named, and other inputs are refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from builder.core.errors import UserError
from builder.core.hashing import sha256_value
from builder.lock.store import names_password
from builder.model.artifacts import Artifact, DiskImage, Manifest, Partition
from builder.model.container import LayerFile, Payload
from builder.rebuild.compare import compare_rebuilt
from builder.rebuild.inputs import check_inputs
from tests.unit.fakes import lock

FILES = {"root.erofs": b"r" * 9000, "uki.efi": b"u" * 5000, "disk.raw": b"d" * 20000}
SOURCES = {"builder": "1" * 64, "image": "2" * 64}
LAYER = f"{'a' * 64}.erofs"


def manifest(initrd: str = "0" * 64) -> Manifest:
    parts = (
        Partition(label="esp", type="esp", uuid="u", offset=4096, bytes=4096),
        Partition(label="slot", type="root-x86-64", uuid="u", offset=8192, bytes=8192),
    )
    names = ("initrd.cpio", "root.erofs", "uki.efi")
    layer = LayerFile(root_hash="a" * 64, bytes=3, data_bytes=2, sha256="b" * 64)
    return Manifest(
        image_id="imgbuild-bare",
        version="1",
        profile="bare",
        site="debian",
        epoch=0,
        root_hash="0" * 64,
        kernel_release="6.1",
        root_bytes=9000,
        root_slot_bytes=10000,
        inputs={},
        payload=Payload(files=(layer,)),
        disk=DiskImage(name="disk.raw", bytes=20000, partitions=parts),
        artifacts=tuple(Artifact(name=name, bytes=1, sha256=initrd) for name in names),
        packages=(),
    )


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    """Give the folders of two images that are the same, the first as a release unpacks."""
    for name in ("old", "new"):
        (tmp_path / name / "layers").mkdir(parents=True)
        for file, content in FILES.items():
            (tmp_path / name / file).write_bytes(content)
        (tmp_path / name / "layers" / LAYER).write_bytes(b"layer")
        (tmp_path / name / "manifest.json").write_text("{}")
    (tmp_path / "new/initrd.cpio").write_bytes(b"initrd")
    return tmp_path / "old", tmp_path / "new"


def wrong(pair: tuple[Path, Path], *, initrd: str = "0" * 64) -> dict[str, str]:
    found = compare_rebuilt(*pair, manifest(), manifest(initrd))
    assert {"initrd.cpio", *FILES, f"layers/{LAYER}", "manifest.json"} == {v.name for v in found}
    return {one.name: one.told for one in found if not one.same}


def change(path: Path, at: int, data: bytes) -> None:
    content = bytearray(path.read_bytes())
    content[at : at + len(data)] = data
    path.write_bytes(content)


def test_the_same_bytes_are_the_same(pair: tuple[Path, Path]) -> None:
    assert wrong(pair) == {}


def test_one_byte_is_found_and_counted(pair: tuple[Path, Path]) -> None:
    change(pair[1] / "root.erofs", 5000, b"x")
    assert wrong(pair) == {"root.erofs": "from byte 5000 on, 1 of 3 blocks of 4 KiB"}


@pytest.mark.parametrize(
    ("at", "where"),
    [(100, "partition table"), (4096, "esp esp"), (9000, "root-x86-64 slot")],
)
def test_on_a_disk_the_partition_is_named(pair: tuple[Path, Path], at: int, where: str) -> None:
    change(pair[0] / "disk.raw", at, b"x")
    assert f"from byte {at} ({where}) on" in wrong(pair)["disk.raw"]


def test_a_file_that_is_longer_differs_from_where_the_other_ends(pair: tuple[Path, Path]) -> None:
    with (pair[1] / "uki.efi").open("ab") as stream:
        stream.write(b"signature")
    assert wrong(pair) == {"uki.efi": "from byte 5000 on, 1 of 2 blocks of 4 KiB"}


def test_layers_and_manifest_count(pair: tuple[Path, Path]) -> None:
    (pair[1] / "layers" / LAYER).write_bytes(b"LAYER")
    (pair[1] / "manifest.json").write_text("{ }")
    assert set(wrong(pair)) == {f"layers/{LAYER}", "manifest.json"}


def test_what_is_not_made_any_more_differs(pair: tuple[Path, Path]) -> None:
    (pair[1] / "layers" / LAYER).unlink()
    assert wrong(pair) == {f"layers/{LAYER}": "is not made any more"}


def test_what_a_release_does_not_bring_is_judged_by_its_digest(pair: tuple[Path, Path]) -> None:
    assert set(wrong(pair, initrd="1" * 64)) == {"initrd.cpio"}


def provenance(folder: Path, own: dict[str, str]) -> None:
    dependencies: list[dict[str, Any]] = [
        {"name": name, "digest": {"sha256": digest}, "annotations": {"kind": "own"}}
        for name, digest in own.items()
    ]
    dependencies.append({"name": "a.deb", "digest": {"sha256": "9" * 64}, "uri": "pkg:deb/a"})
    text = {"predicate": {"buildDefinition": {"resolvedDependencies": dependencies}}}
    (folder / "provenance.json").write_text(json.dumps(text))


def test_the_same_lock_and_sources_are_taken(tmp_path: Path) -> None:
    provenance(tmp_path, {**SOURCES, "lock": sha256_value(lock().model_dump(mode="json"))})
    check_inputs(tmp_path, lock(), SOURCES)


def test_another_lock_is_refused(tmp_path: Path) -> None:
    provenance(tmp_path, {**SOURCES, "lock": "0" * 64})
    with pytest.raises(UserError, match="was built from another lock"):
        check_inputs(tmp_path, lock(), SOURCES)


@pytest.mark.parametrize(
    "here", [{**SOURCES, "image": "3" * 64}, {"builder": "1" * 64}, {**SOURCES, "more": "4" * 64}]
)
def test_other_sources_are_refused_by_name(tmp_path: Path, here: dict[str, str]) -> None:
    provenance(tmp_path, {**SOURCES, "lock": sha256_value(lock().model_dump(mode="json"))})
    with pytest.raises(UserError, match="other sources than are here: (image|more) "):
        check_inputs(tmp_path, lock(), here)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"predicate": 1}', "\x00"])
def test_a_damaged_provenance_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(UserError, match="there is no provenance"):
        check_inputs(tmp_path, lock(), SOURCES)
    (tmp_path / "provenance.json").write_text(text)
    with pytest.raises(UserError, match="is no provenance of an image"):
        check_inputs(tmp_path, lock(), SOURCES)
    provenance(tmp_path, {})
    with pytest.raises(UserError, match="names no inputs"):
        check_inputs(tmp_path, lock(), SOURCES)


def test_a_lock_with_a_password_is_not_handed_on() -> None:
    assert not names_password(lock())
    one = lock().archives[0]
    for uri in ("https://user:word@mirror.example/debian", "https://token@mirror.example/"):
        changed = one.model_copy(update={"uri": uri})
        assert names_password(lock().model_copy(update={"archives": (one, changed)}))
