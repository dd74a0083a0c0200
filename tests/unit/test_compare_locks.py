"""The list of changes that `imgbuild lock` prints."""

from __future__ import annotations

from typing import Any

import pytest

from builder.compare.locks import lock_changes
from builder.model.lock import Lock, LockedContainer, LockedPackage, LockedWheel, TreeName
from tests.unit import fakes


def package(name: str, *trees: TreeName, version: str = "1", content: str = "0") -> LockedPackage:
    return fakes.package(name, content * 64, trees=trees, version=version)


def wheel(name: str, version: str = "1", content: str = "0") -> LockedWheel:
    return LockedWheel(name=name, version=version, file_name=f"{name}.whl", sha256=content * 64)


def lock(*packages: LockedPackage, **outside: Any) -> Lock:  # noqa: ANN401 - fields of the lock
    return fakes.lock(*packages).model_copy(update=outside)


def recipe(*wheels: LockedWheel) -> LockedContainer:
    return LockedContainer(source="recipe:tiny", wheels=wheels)


def test_the_first_lock_says_how_much() -> None:
    assert lock_changes(None, lock()) == ["1 packages locked"]
    new = lock(container=recipe(wheel("torch"), wheel("vllm")))
    assert lock_changes(None, new) == ["1 packages, 2 wheels locked"]


def test_nothing_changed() -> None:
    assert lock_changes(lock(), lock()) == ["nothing changed"]


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        (
            package("a", "image", "tools"),
            package("a", "image", "tools", version="2", content="2"),
            "a: 1 → 2",
        ),
        (package("a", "image", "tools"), package("a", "tools"), "a: 1 → gone (image)"),
        (package("a", "tools"), package("a", "image", "tools"), "a: new → 1 (image)"),
        (
            package("a", "tools"),
            package("a", "tools", version="2", content="2"),
            "a: 1 → 2 (tools)",
        ),
        (package("a", "image"), package("a", "image", content="2"), "a: 1, another file"),
    ],
    ids=["everywhere", "leaves one tree", "enters one tree", "not the image", "rebuilt"],
)
def test_a_change_names_its_trees(old: LockedPackage, new: LockedPackage, told: str) -> None:
    base = package("base", "image", "tools")
    assert lock_changes(lock(base, old), lock(base, new)) == [told]


def test_two_trees_with_two_versions_of_one_package() -> None:
    base = package("base", "image", "container")
    image = package("a", "image")
    old = lock(base, image, package("a", "container", version="0.9", content="9"))
    new = lock(base, image, package("a", "container", version="0.10", content="8"))
    assert lock_changes(old, new) == ["a: 0.9 → 0.10 (container)"]


def test_wheels_have_their_lines() -> None:
    old = lock(container=recipe(wheel("torch"), wheel("numba"), wheel("same")))
    new = lock(container=recipe(wheel("torch", "2", "2"), wheel("same"), wheel("vllm")))
    assert lock_changes(old, new) == [
        "numba: 1 → gone (wheel)",
        "torch: 1 → 2 (wheel)",
        "vllm: new → 1 (wheel)",
    ]


def test_the_wheels_of_a_model_bundle() -> None:
    old = lock(bundles={"tiny": (wheel("gguf"),)})
    new = lock(bundles={"tiny": (wheel("gguf", "2", "2"),), "other": (wheel("gguf"),)})
    assert lock_changes(old, new) == [
        "model bundle other: no wheels → 1 wheels",
        "gguf: 1 → 2 (model tiny)",
    ]


def test_a_container_by_digest() -> None:
    source = "docker://vllm/vllm-openai:v0.32.0"
    old = lock(container=LockedContainer(source=source, digest="a" * 64))
    new = lock(container=LockedContainer(source=source, digest="b" * 64))
    assert lock_changes(old, new) == ["container: sha256:aaaaaaaaaaaa… → sha256:bbbbbbbbbbbb…"]


def test_a_container_that_comes_is_told_in_few_lines() -> None:
    base = package("base", "image")
    inside = (package("a", "container"), package("b", "container"))
    new = lock(base, *inside, container=recipe(wheel("torch"), wheel("vllm")))
    assert lock_changes(lock(base), new) == [
        "container: no packages → 2 packages",
        "container: none → recipe:tiny",
        "container: no wheels → 2 wheels",
    ]
    assert lock_changes(new, lock(base))[0] == "container: 2 packages → no packages"


def test_another_source() -> None:
    old = lock(container=recipe(wheel("torch")))
    new = lock(container=LockedContainer(source="oci-archive:x.tar", digest="a" * 64))
    assert lock_changes(old, new) == [
        "container: recipe:tiny → oci-archive:x.tar",
        "container: 1 wheels → no wheels",
    ]
