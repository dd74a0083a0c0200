"""Image layouts: digests, chains, configs; what others write is read as well."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from builder.containers.oci import Blob, chain_ids, image_config, read_layout, write_layout
from builder.core.errors import UserError
from builder.core.hashing import sha256_file
from builder.model.container import ContainerRecipe
from tests.unit.fakes import EPOCH

RECIPE = ContainerRecipe(
    description="d", packages=(), entrypoint=("python3", "-m", "x"), env={"B": "2", "A": "1"}
)


def blob(folder: Path, title: str) -> Blob:
    path = folder / f"{title}.tar"
    path.write_bytes(title.encode())
    return Blob(title, path, sha256_file(path))


def layout(folder: Path, *titles: str) -> Path:
    layers = [blob(folder, title) for title in titles]
    config = image_config(RECIPE, layers, created=EPOCH, layer_epoch=1)
    write_layout(folder / "layout", config, layers, "vllm")
    return folder / "layout"


def test_chain_ids_are_those_of_the_specification() -> None:
    one, two, three = (hashlib.sha256(name.encode()).hexdigest() for name in "abc")
    chain = chain_ids([one, two, three])
    second = hashlib.sha256(f"sha256:{one} sha256:{two}".encode()).hexdigest()
    third = hashlib.sha256(f"sha256:{second} sha256:{three}".encode()).hexdigest()
    assert chain == [one, second, third]
    assert chain_ids([]) == []


def test_a_config_has_what_docker_needs(tmp_path: Path) -> None:
    text = image_config(RECIPE, [blob(tmp_path, "os")], created=EPOCH, layer_epoch=315532800)
    config = json.loads(text)
    assert config["created"] == "2026-01-01T00:00:00Z"
    assert config["config"]["Entrypoint"] == ["python3", "-m", "x"]
    assert config["config"]["Env"][0].startswith("PATH=/usr/local/sbin:")
    assert config["config"]["Env"][1:] == ["A=1", "B=2"]
    assert config["history"] == [{"created": "1980-01-01T00:00:00Z", "created_by": "os"}]
    assert (config["architecture"], config["os"]) == ("amd64", "linux")


def test_a_recipe_may_set_the_path() -> None:
    recipe = RECIPE.model_copy(update={"env": {"PATH": "/bin"}})
    config = json.loads(image_config(recipe, [], created=EPOCH, layer_epoch=1))
    assert config["config"]["Env"] == ["PATH=/bin"]


def test_a_layout_is_read_as_it_was_written(tmp_path: Path) -> None:
    folder = layout(tmp_path, "os", "torch")
    image = read_layout(folder)
    assert [(one.title, one.epoch) for one in image.layers] == [("os", 1), ("torch", 1)]
    assert image.ref == "vllm"
    assert image.config_digest == hashlib.sha256(image.config.encode()).hexdigest()
    blobs = folder / "blobs/sha256"
    assert all(sha256_file(path) == path.name for path in blobs.iterdir())
    manifest = json.loads((blobs / image.digest).read_text())
    assert manifest["config"]["digest"] == f"sha256:{image.config_digest}"
    assert [one["size"] for one in manifest["layers"]] == [2, 5]


def test_equal_layers_are_one_blob(tmp_path: Path) -> None:
    folder = layout(tmp_path, "os", "os")
    assert len(read_layout(folder).layers) == 2
    assert len(list((folder / "blobs/sha256").iterdir())) == 3


def rewritten(folder: Path, **config: Any) -> Path:  # noqa: ANN401
    """Replace parts of the layout's config, as another builder would have written it."""
    blobs = folder / "blobs/sha256"
    image = read_layout(folder)
    path = blobs / image.config_digest
    path.write_text(json.dumps({**json.loads(image.config), **config}))
    return folder


def test_empty_layers_of_the_history_have_no_files(tmp_path: Path) -> None:
    history = [
        {"created": "2024-02-01T00:00:00.123456789Z", "created_by": "ADD  file:x in /\n"},
        {"created": "2024-02-02T00:00:00Z", "created_by": "ENV A=b", "empty_layer": True},
        {"created_by": "x" * 200},
    ]
    image = read_layout(rewritten(layout(tmp_path, "a", "b"), history=history))
    assert [one.epoch for one in image.layers] == [1706745600, EPOCH]
    assert image.layers[0].title == "ADD file:x in /"
    assert len(image.layers[1].title) == 80


def test_a_history_that_does_not_fit_is_not_believed(tmp_path: Path) -> None:
    image = read_layout(rewritten(layout(tmp_path, "a", "b"), history=[{"created_by": "x"}]))
    assert [one.title for one in image.layers] == ["layer 0", "layer 1"]


def test_a_list_of_machines_is_refused(tmp_path: Path) -> None:
    folder = layout(tmp_path, "a")
    index = json.loads((folder / "index.json").read_text())
    index["manifests"] *= 2
    (folder / "index.json").write_text(json.dumps(index))
    with pytest.raises(UserError, match="holds 2 images"):
        read_layout(folder)


def test_other_digests_are_refused(tmp_path: Path) -> None:
    folder = rewritten(layout(tmp_path, "a"), rootfs={"diff_ids": ["sha512:00"]})
    with pytest.raises(UserError, match="only images with SHA-256"):
        read_layout(folder)
