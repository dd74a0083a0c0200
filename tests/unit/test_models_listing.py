"""What a mirror may say about a model: both forms, the filter, the refusals."""

from __future__ import annotations

import json
from typing import Any

import pytest

from imgnode.fault import Fault
from imgnode.models.listing import RemoteFile, parse

SHA1, SHA256 = "1" * 40, "2" * 64


def entry(path: str, **more: Any) -> dict[str, Any]:  # noqa: ANN401
    return {"type": "file", "path": path, "size": 5, "oid": SHA1, **more}


def paths(*names: str) -> list[str]:
    listing = parse(json.dumps([entry(name) for name in names]))
    assert listing is not None
    return [one.path for one in listing.files]


# The forms are those of huggingface.co's API for a public model, with made-up digests.
TREE = [
    {"type": "directory", "oid": SHA1, "size": 0, "path": "sub"},
    {"type": "file", "oid": SHA1, "size": 1519, "path": ".gitattributes"},
    {"type": "file", "oid": SHA1, "size": 861, "path": "config.json"},
    {
        "type": "file",
        "oid": "3" * 40,
        "size": 269060552,
        "lfs": {"oid": SHA256, "size": 269060552, "pointerSize": 134},
        "path": "sub/model.safetensors",
        "xetHash": "4" * 64,
    },
]
REVISION = {
    "id": "org/m",
    "sha": "5" * 40,
    "siblings": [
        {"rfilename": ".gitattributes", "size": 1519, "blobId": SHA1},
        {"rfilename": "config.json", "size": 861, "blobId": SHA1},
        {
            "rfilename": "sub/model.safetensors",
            "size": 269060552,
            "blobId": "3" * 40,
            "lfs": {"sha256": SHA256, "size": 269060552, "pointerSize": 134},
        },
    ],
}
FILES = (
    RemoteFile("config.json", 861, None, SHA1),
    RemoteFile("sub/model.safetensors", 269060552, SHA256, None),
)


def test_both_forms_say_the_same() -> None:
    tree, revision = parse(json.dumps(TREE)), parse(json.dumps(REVISION))
    assert tree is not None
    assert revision is not None
    assert tree.files == revision.files == FILES
    assert (tree.commit, revision.commit) == (None, "5" * 40)
    assert tree.bytes == 269061413


@pytest.mark.parametrize(
    "answer",
    [
        {"siblings": [{"rfilename": "config.json"}]},
        {"siblings": [{"rfilename": "config.json", "size": 5, "blobId": "x"}]},
        {"siblings": [{"rfilename": "config.json", "size": True, "blobId": SHA1}]},
        {"siblings": [{"rfilename": "m", "size": 5, "lfs": {"size": 5}}]},
        {"error": "gated"},
        [],
    ],
)
def test_a_list_without_sizes_and_digests_is_none(answer: object) -> None:
    assert parse(json.dumps(answer)) is None


def test_with_safetensors_other_forms_are_left_out() -> None:
    mixed = (
        "config.json",
        "model-00001-of-00002.safetensors",
        "pytorch_model.bin",
        "flax_model.msgpack",
        "tf_model.h5",
        "model.gguf",
        "original/consolidated.00.pth",
        "onnx/model.onnx_data",
        "modeling_x.py",
        "tokenizer.model",
        "chat template.jinja",
        ".gitattributes",
    )
    assert paths(*mixed) == [
        "config.json",
        "model-00001-of-00002.safetensors",
        "tokenizer.model",
        "chat template.jinja",
    ]
    assert paths("config.json", "pytorch_model.bin") == ["config.json", "pytorch_model.bin"]


@pytest.mark.parametrize(
    "path",
    [
        "../x",
        "a/../../x",
        "/etc/passwd",
        "a//b",
        "",
        ".",
        "..",
        "a/..",
        "a\\b",
        "a\nb",
        "a\0b",
        "-o",
        "a/-rf",
        "x" * 300,
        "/".join("abcdefghij"),
        7,
        None,
    ],
)
def test_a_path_that_could_leave_the_folder_is_refused(path: object) -> None:
    with pytest.raises(Fault, match="refused as a file name") as caught:
        parse(json.dumps([entry("config.json"), {**entry(""), "path": path}]))
    assert caught.value.kind == "fetch"


@pytest.mark.parametrize("kind", ["symlink", "submodule", 5])
def test_what_is_no_file_is_refused(kind: object) -> None:
    with pytest.raises(Fault, match="refused"):
        parse(json.dumps([entry("a", type=kind)]))


@pytest.mark.parametrize("text", ["<html>", "[1]", '["a"]'])
def test_what_is_no_list_is_a_fault_of_the_mirror(text: str) -> None:
    with pytest.raises(Fault) as caught:
        parse(text)
    assert caught.value.kind == "fetch"
