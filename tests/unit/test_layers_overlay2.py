"""What is written into Docker's store: names, chains, references; no disk needed."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from imgnode.layers.overlay2 import Entry, cache_id, link_id, plan, references
from tests.unit.layers_node import container, image, sha

MOUNTS = Path("/run/imgnode/layers")


def test_one_layer_is_written_as_dockerd_would() -> None:
    one = image(1)
    (layer,) = one.layers
    cache = "544282ca50d48017d5849749844db60960be729d2ab2cee828b9d29230014497"
    link = "7Q3GDRBPRLMODC7XZTYKNBTUO6"
    assert (cache_id(layer), link_id(layer)) == (cache, link)
    base = f"image/overlay2/layerdb/sha256/{layer.chain_id}"
    assert plan(one, MOUNTS) == [
        Entry(f"overlay2/{cache}/diff", "link", f"/run/imgnode/layers/{layer.root_hash}"),
        Entry(f"overlay2/{cache}/link", "file", link),
        Entry(f"overlay2/{cache}/committed", "file", ""),
        Entry(f"overlay2/l/{link}", "link", f"../{cache}/diff"),
        Entry(f"{base}/diff", "file", f"sha256:{layer.diff_id}"),
        Entry(f"{base}/size", "file", "1000"),
        Entry(f"{base}/cache-id", "file", cache),
        Entry(f"image/overlay2/imagedb/content/sha256/{one.image_id}", "file", one.config),
    ]


@pytest.mark.parametrize("count", [1, 2, 5])
def test_each_layer_lies_upon_those_below_the_nearest_first(count: int) -> None:
    one = image(count)
    entries = {entry.path: entry for entry in plan(one, MOUNTS)}
    assert len(entries) == 10 * count - 3 + 1
    for number, layer in enumerate(one.layers):
        own = f"overlay2/{cache_id(layer)}"
        base = f"image/overlay2/layerdb/sha256/{layer.chain_id}"
        below = one.layers[:number][::-1]
        if not below:
            assert not {f"{own}/lower", f"{own}/work", f"{base}/parent"} & set(entries)
            continue
        assert entries[f"{own}/lower"].content == ":".join(f"l/{link_id(x)}" for x in below)
        assert entries[f"{own}/work"].kind == "folder"
        assert entries[f"{base}/parent"].content == f"sha256:{below[0].chain_id}"


def test_names_are_ones_that_docker_takes_and_all_differ() -> None:
    layers = image(5).layers
    assert all(re.fullmatch(r"[a-f0-9]{64}", cache_id(layer)) for layer in layers)
    assert all(re.fullmatch(r"[A-Z2-7]{26}", link_id(layer)) for layer in layers)
    assert len({cache_id(layer) for layer in layers}) == len({link_id(x) for x in layers}) == 5


def test_the_same_layer_in_another_file_is_another_folder() -> None:
    """A rebuilt EROFS image of the same layer must not be taken for the old one."""
    one, other = image(1), image(1)
    changed = {**container(1)["layers"][0], "root_hash": sha("another")}
    assert cache_id(one.layers[0]) == cache_id(other.layers[0])
    assert cache_id(type(one.layers[0])(**changed)) != cache_id(one.layers[0])


def test_an_image_that_does_not_fit_its_digests_is_refused() -> None:
    with pytest.raises(ValueError, match="not the one that its ID names"):
        plan(image(2, image_id=sha("other")), MOUNTS)
    config = json.dumps({"rootfs": {"diff_ids": [f"sha256:{sha('diff 0')}"]}})
    with pytest.raises(ValueError, match="names other layers"):
        plan(image(2, config=config, image_id=sha(config)), MOUNTS)
    layers = container(2)["layers"]
    layers[1]["chain_id"] = sha("wrong")
    with pytest.raises(ValueError, match="part1: its chain ID"):
        plan(image(2, layers=layers), MOUNTS)


def test_references_are_by_tag_and_digest() -> None:
    one = image(1)
    named = {
        "imgnode/vllm:2026.1": f"sha256:{one.image_id}",
        f"imgnode/vllm@sha256:{one.digest}": f"sha256:{one.image_id}",
    }
    assert json.loads(references(one, None)) == {"Repositories": {"imgnode/vllm": named}}


def test_other_references_stay() -> None:
    one = image(1)
    mine = {"imgnode/vllm": {"imgnode/vllm:old": "sha256:1"}, "x": {"x:1": "sha256:2"}}
    merged = json.loads(references(one, json.dumps({"Repositories": mine})))["Repositories"]
    assert merged["x"] == mine["x"]
    assert merged["imgnode/vllm"]["imgnode/vllm:old"] == "sha256:1"
    assert len(merged["imgnode/vllm"]) == 3
    assert references(one, json.dumps({"Repositories": merged})) == json.dumps(
        {"Repositories": merged}, separators=(",", ":")
    )


@pytest.mark.parametrize("present", ["", "{", "[]", "{}", '{"Repositories": null}', "null"])
def test_a_broken_list_of_references_is_replaced(present: str) -> None:
    assert references(image(1), present) == references(image(1), None)


@pytest.mark.parametrize(
    ("repository", "name"),
    [
        ("docker.io/vllm/vllm-openai", "vllm/vllm-openai"),
        ("docker.io/library/busybox", "busybox"),
        ("registry.example:5000/library/x", "registry.example:5000/library/x"),
        ("library/x", "library/x"),
    ],
)
def test_docker_hubs_names_are_short_in_the_list(repository: str, name: str) -> None:
    known = json.loads(references(image(1, repository=repository), None))["Repositories"]
    assert list(known) == [name]
    assert f"{name}:2026.1" in known[name]
