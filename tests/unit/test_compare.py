"""What is different between two images, what an update moves, and what each part takes."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from builder.compare.images import compare
from builder.compare.manifest import newest_image, read_manifest
from builder.compare.parts import parts, total
from builder.core.errors import UserError
from builder.model.container import Payload
from builder.model.difference import Difference, Moved
from tests.unit.images import MODEL, container, file, layer, manifest, package, payload


def changed(found: Difference) -> dict[str, tuple[str | None, str | None]]:
    return {one.name: (one.old, one.new) for one in found.packages}


def fates(found: Difference) -> list[tuple[str, str]]:
    return [(one.part.title, one.fate) for one in found.files]


def test_an_image_and_itself() -> None:
    found = compare(manifest(), manifest())
    assert all(one.old == one.new for one in found.facts)
    assert (found.packages, found.packages_same) == ((), 1)
    assert {one.fate for one in found.files} == {"shared"}
    assert found.update_bytes == 0


def test_packages_that_come_go_and_change() -> None:
    old = manifest(packages=(package(), package("beta"), package("gone"), package("same")))
    new = manifest(
        packages=(
            package("alpha", "2.0", "1"),
            package("beta", "1.0", "2"),
            package("came"),
            package("same"),
        )
    )
    found = compare(old, new)
    assert changed(found) == {
        "alpha": ("1.0", "2.0"),
        "beta": ("1.0", "1.0"),
        "came": (None, "1.0"),
        "gone": ("1.0", None),
    }
    assert [one.name for one in found.packages if one.rebuilt] == ["beta"]
    assert found.packages_same == 1


def test_an_update_of_the_root_leaves_layers_and_models_alone() -> None:
    found = compare(manifest(root="1"), manifest("2", root="2"))
    assert found.update == (
        Moved(kind="root", bytes=1010, of=1010),
        Moved(kind="uki", bytes=90, of=90),
        Moved(kind="layer", bytes=0, of=300),
        Moved(kind="model", bytes=0, of=400),
    )
    assert (found.update_bytes, found.full_bytes) == (1100, 1800)


def test_a_new_layer_is_moved_alone() -> None:
    found = compare(manifest(), manifest("2", outside=payload("d", 250)))
    assert fates(found) == [
        ("os", "shared"),
        ("libraries", "new"),
        (MODEL, "shared"),
        ("libraries", "gone"),
    ]
    assert found.update_bytes == 250
    facts = {one.name: one for one in found.facts}
    assert facts["container"].old != facts["container"].new
    assert facts["kernel"].old == facts["kernel"].new


def test_a_container_that_comes_and_one_that_goes() -> None:
    bare = manifest(outside=Payload())
    came, went = compare(bare, manifest()), compare(manifest(), bare)
    assert came.update_bytes == 700
    assert went.update_bytes == 0
    assert {one.fate for one in went.files} == {"gone"}
    assert [one.kind for one in went.update] == ["root", "uki"]
    assert {one.name: one.new for one in went.facts}["container"] is None


def test_the_difference_survives_json() -> None:
    found = compare(manifest(), manifest("2", outside=payload("d")))
    assert Difference.model_validate_json(found.model_dump_json()) == found


def test_the_parts_are_what_a_node_gets() -> None:
    found = parts(manifest())
    assert [(one.kind, one.title, one.bytes, one.unpacked) for one in found] == [
        ("root", "file system", 1000, None),
        ("root", "hash tree", 10, None),
        ("uki", "kernel, initrd", 90, None),
        ("layer", "os", 100, 300),
        ("layer", "libraries", 200, 1000),
        ("model", MODEL, 400, None),
    ]
    assert total(found) == 1800
    assert total(found, "root", "layer") == 1310


def test_equal_layers_are_one_file_with_both_names() -> None:
    twice = container(layer("first", "a", 300), layer("second", "a", 300))
    found = parts(manifest(outside=Payload(container=twice, files=(file("a", 100),))))
    assert [(one.title, one.bytes) for one in found if one.kind == "layer"] == [
        ("first, second", 100)
    ]


def test_a_manifest_is_read_by_folder_or_by_file(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text(manifest().model_dump_json())
    assert read_manifest(tmp_path) == read_manifest(tmp_path / "manifest.json") == manifest()


def without(key: str) -> str:
    values = json.loads(manifest().model_dump_json())
    del values[key]
    return json.dumps(values)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("{", "Invalid JSON"),
        ("", "Invalid JSON"),
        ("[]", "should be an object"),
        (without("payload"), "payload: Field required"),
        ("\udcff", "Invalid JSON"),
    ],
)
def test_a_damaged_manifest_says_so(tmp_path: Path, text: str, told: str) -> None:
    path = tmp_path / "manifest.json"
    path.write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(UserError, match="not the manifest of an image") as caught:
        read_manifest(tmp_path)
    assert told in caught.value.what
    assert str(path) in caught.value.what
    assert "build the image again" in (caught.value.hint or "")


def test_a_missing_manifest_says_so(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "nothing"):
        with pytest.raises(UserError, match="no such manifest") as caught:
            read_manifest(path)
        assert caught.value.hint


def test_a_disk_is_no_manifest(tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    (tmp_path / "x/manifest.json").mkdir()
    with pytest.raises(UserError, match="cannot be read"):
        read_manifest(tmp_path / "x")


def test_the_newest_image_is_found(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no image yet"):
        newest_image(tmp_path)
    for number, name in enumerate(("cpu/2", "cpu/1", "bare/.3.part")):
        folder = tmp_path / name
        folder.mkdir(parents=True)
        (folder / "manifest.json").touch()
        os.utime(folder / "manifest.json", (number, number))
    assert newest_image(tmp_path) == tmp_path / "cpu/1"
