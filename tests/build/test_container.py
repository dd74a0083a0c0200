"""Containers and model bundles as files of the layer store: the same bytes, made once, shared."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from builder.core.process import Runner
from builder.core.sandbox import Sandbox
from builder.model.artifacts import Manifest
from tests.build.boxed import RECIPE
from tests.build.command import Place, Result, copy_project
from tests.build.conftest import Warm
from tests.build.same import assert_same_bytes

pytestmark = pytest.mark.timeout(1500)


@pytest.fixture
def again(tmp_path: Path, box: Warm) -> Place:
    """Give a copy of the project, with its lock, to be changed."""
    made = Place(tmp_path)
    copy_project(box.place.project, made.project, link=False)
    return made


def build(place: Place, box: Warm, *words: str) -> Result:
    return place.build("boxed", *words, env={"IMGBUILD_CACHE": str(box.cache)})


def manifest(out: Path) -> Manifest:
    return Manifest.model_validate_json((out / "manifest.json").read_text())


def layers(out: Path) -> dict[str, str]:
    """Return the root hash of each layer by its title."""
    container = manifest(out).payload.container
    assert container is not None
    return {layer.title: layer.root_hash for layer in container.layers}


def test_the_layers_are_those_of_the_recipe(box: Warm) -> None:
    payload = manifest(box.place.out).payload
    assert list(layers(box.place.out)) == ["os", "one", "rest", "warm"]
    assert [one.model for one in payload.models] == ["org/toy"]
    there = {path.name: path.stat().st_size for path in (box.place.out / "layers").iterdir()}
    assert there == {file.name: file.bytes for file in payload.files}
    config = json.loads(payload.container.config if payload.container else "")
    assert config["config"]["Entrypoint"] == ["python3"]
    assert "BOX=small" in config["config"]["Env"]


def test_another_cache_and_path_give_the_same_bytes(box: Warm, tmp_path: Path) -> None:
    other = Place(tmp_path / "a somewhat longer path")
    copy_project(box.place.project, other.project, link=False)
    (other.cache / "debs").mkdir(parents=True)
    (other.cache / "stages").mkdir()
    shutil.copytree(box.cache / "debs", other.cache / "debs", dirs_exist_ok=True)
    tools = box.result("tools")
    (other.cache / "stages/tools").symlink_to(tools.parent)
    odd = {"TZ": "Pacific/Auckland", "PYTHONHASHSEED": "7", "LC_ALL": "tr_TR.UTF-8"}
    other.build("boxed", env=odd).done()
    assert_same_bytes(box.place.out, other.out)


def test_an_overlay_that_changes_makes_no_layer_anew(box: Warm, again: Place) -> None:
    again.write("overlays/base/etc/issue", "changed\n")
    done = build(again, box, "--json")
    done.done()
    events = [json.loads(line) for line in done.out.splitlines()]
    ended = {one["stage"]: one["outcome"] for one in events if one["event"] == "StageEnded"}
    assert ended["root"] == "built"
    made = {"os", "one", "rest", "warm"}
    assert {stage: ended[stage] for stage in ended if stage.startswith(("layer-", "model-"))} == {
        **{f"layer-{name}": "cached" for name in made},
        "model-toy": "cached",
    }


def test_layers_that_do_not_change_are_the_same_files(box: Warm, again: Place) -> None:
    again.write(
        "image/containers/box/recipe.yaml", RECIPE.replace("pyyaml==6.0.2", "pyyaml==6.0.1")
    )
    (again.project / "config/locks/boxed.lock.json").unlink()
    build(again, box).done()
    before, after = layers(box.place.out), layers(again.out)
    assert {name for name in before if before[name] == after[name]} == {"os", "one", "warm"}
    assert manifest(box.place.out).payload.models == manifest(again.out).payload.models
    told = again.run("diff", str(box.place.out), str(again.out), "--json")
    told.done()
    files = json.loads(told.out)["files"]
    shared = {one["part"]["title"] for one in files if one["fate"] == "shared"}
    assert shared == {"os", "one", "warm", "org/toy"}


def test_without_container_the_disk_leaves_the_layers_out(box: Warm, again: Place) -> None:
    build(again, box, "--without-container").done()
    made, full = manifest(again.out), manifest(box.place.out)
    assert made.payload == full.payload
    assert [one.type for one in full.disk.partitions].count("var") == 1
    assert [one.type for one in made.disk.partitions].count("var") == 0
    assert len(list((again.out / "layers").iterdir())) == len(made.payload.files)


def archive(box: Warm, target: Path) -> None:
    """Write the box as an OCI archive."""
    tools = box.result("tools")
    container = manifest(box.place.out).payload.container
    assert container is not None
    for layout in (box.cache / "stages/container-oci").iterdir():
        if container.digest in (layout / "index.json").read_text():
            sandbox = Sandbox(tools / "tree", Runner())
            words = ["skopeo", "--insecure-policy", "copy", f"oci:{layout}"]
            words.append(f"oci-archive:{target}")
            sandbox.run(words, write=[target.parent], read=[layout])


def test_an_archive_gives_the_same_layers(box: Warm, again: Place) -> None:
    archive(box, again.project / "box.tar")
    again.write("config/profiles/boxed.yaml", _ARCHIVE)
    (again.project / "config/locks/boxed.lock.json").unlink()
    build(again, box).done()
    old, new = manifest(box.place.out).payload.container, manifest(again.out).payload.container
    assert old is not None
    assert new is not None
    assert [one.diff_id for one in new.layers] == [one.diff_id for one in old.layers]
    assert new.config == old.config


def test_an_archive_that_has_changed_is_refused(box: Warm, again: Place) -> None:
    archive(box, again.project / "box.tar")
    again.write("config/profiles/boxed.yaml", _ARCHIVE)
    (again.project / "config/locks/boxed.lock.json").unlink()
    env = {"IMGBUILD_CACHE": str(box.cache)}
    again.run("lock", "--profile", "boxed", env=env).done()
    with (again.project / "box.tar").open("r+b") as stream:
        stream.write(b"damaged")
    build(again, box).refused("box.tar", "hint:")
    assert not again.out.exists()


_ARCHIVE = "extends: bare\ndescription: from a file\ncontainer: oci-archive:box.tar\n"


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        (
            "config/profiles/boxed.yaml",
            "extends: bare\ndescription: a\ncontainer: recipe:bix\n",
            ("image/containers/bix/recipe.yaml", "did you mean 'box'"),
        ),
        (
            "config/profiles/boxed.yaml",
            "extends: bare\ndescription: a\ncontainer: oci-archive:none.tar\n",
            ("none.tar",),
        ),
        (
            "image/containers/box/recipe.yaml",
            f"{RECIPE}pakages: [x]\n",
            ("image/containers/box/recipe.yaml: pakages: unknown key", "'packages'"),
        ),
        (
            "image/containers/box/recipe.yaml",
            RECIPE.replace("installer==0.7.0", "installer==99.0"),
            ("installer==99.0",),
        ),
    ],
)
def test_what_cannot_be_built_is_refused(
    box: Warm, again: Place, name: str, text: str, words: tuple[str, ...]
) -> None:
    again.write(name, text)
    (again.project / "config/locks/boxed.lock.json").unlink()
    build(again, box).refused(*words, "hint:")
    assert not again.out.exists()
