"""`imgbuild seed`: the example, the checks against a profile's GPUs, the memory estimate."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from builder.core.errors import ConfigError
from builder.core.paths import Project
from builder.model.profile import Gpu, Profile
from builder.model.shapes import Shape
from builder.model.site import Site
from builder.resolve import load_shapes
from builder.seed.check import Board, check_seed
from builder.seed.estimate import estimate
from builder.seed.example import example_seed
from imgnode.inference import RULES, Inference
from imgnode.seed import USER, judge
from tests.unit import fakes
from tests.unit.resolve_project import Files, files
from tests.unit.test_cli import Call, call

__all__ = ["call", "files"]

ROOT = Path(__file__).parents[2]
GIB = 1 << 30
A100_BYTES = 80 * GIB
A100 = Gpu(model="A100-SXM4-80GB", count=8, memory=A100_BYTES)
SHAPES = load_shapes(Project(ROOT))
BIG = "Qwen/Qwen2.5-72B-Instruct"
GPU_PROFILE = """
extends: base
description: a board
gpu: {model: A100-SXM4-80GB, count: 8, memory: 80GiB}
"""


def seed(**settings: object) -> bytes:
    values = {"ssh_authorized_keys": ["k"], "inference": settings}
    return f"#cloud-config\n{yaml.safe_dump(values)}".encode()


def test_an_estimate_by_hand() -> None:
    """72.7e9 weights of 2 bytes over 4 GPUs; 2 x 80 layers x 2 heads x 128 x 2 bytes a token."""
    config = Inference(tensor_parallel_size=4)
    found = estimate(config, SHAPES[BIG], A100_BYTES, 32768)
    assert found.weights == 72706203648 * 2 // 4
    assert found.sequence == 2 * 80 * 2 * 128 * 2 * 32768
    assert found.usable == int(80 * GIB * 0.9)
    assert found.fits
    assert found.sequences == 15


@pytest.mark.parametrize(
    ("config", "weights", "token"),
    [
        (Inference(), 1.0, 1.0),
        (Inference(tensor_parallel_size=2, pipeline_parallel_size=2), 0.25, 0.25),
        (Inference(tensor_parallel_size=64), 1 / 64, 1 / 8),  # a kv head is never split
        (Inference(quantization="fp8"), 0.5, 1.0),
        (Inference(quantization="awq"), 0.25, 1.0),
        (Inference(dtype="float32"), 2.0, 2.0),
        (Inference(extra_args={"kv-cache-dtype": "fp8_e5m2"}), 1.0, 0.5),
    ],
)
def test_what_a_config_does_to_the_estimate(
    config: Inference, weights: float, token: float
) -> None:
    plain = estimate(Inference(), SHAPES[BIG], A100_BYTES, 1024)
    found = estimate(config, SHAPES[BIG], A100_BYTES, 1024)
    assert found.weights == int(plain.weights * weights)
    assert found.sequence == int(plain.sequence * token)


def test_parameters_of_the_table_follow_from_the_shapes() -> None:
    """Embeddings aside, a layer has attention and MLP: the order of size must agree."""
    for name, shape in SHAPES.items():
        attention = 2 * shape.hidden_size * shape.head_dim * (shape.heads + shape.kv_heads)
        assert shape.layers * attention < shape.parameters, name
        assert shape.head_dim * shape.heads == shape.hidden_size, name


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"model": BIG, "max_model_len": 32768, "tensor_parallel_size": 3}, "does not divide"),
        ({"model": BIG, "max_model_len": 4096}, "tensor_parallel_size: does not fit: on each GPU"),
        (
            {"model": BIG, "max_model_len": 131072, "tensor_parallel_size": 2},
            "max_model_len: does not fit",
        ),
        ({"model": "Qwen/Qwen2.5-7B-Instruct", "tensor_parallel_size": 8}, "28 attention heads"),
        ({"modl": BIG}, "did you mean 'model'?"),
    ],
)
def test_what_a_board_cannot_hold(settings: dict[str, object], told: str) -> None:
    (problem,) = check_seed(seed(**settings), Board("a100", A100), SHAPES).problems
    assert told in problem


def test_the_longest_length_is_named_and_fits() -> None:
    settings: dict[str, object] = {"model": BIG, "tensor_parallel_size": 2}
    board = Board("a100", A100)
    (problem,) = check_seed(seed(**settings, max_model_len=131072), board, SHAPES).problems
    longest = int(problem.split("at most ")[1].split(" ")[0])
    assert not check_seed(seed(**settings, max_model_len=longest), board, SHAPES).problems
    assert check_seed(seed(**settings, max_model_len=longest + 1), board, SHAPES).problems


@pytest.mark.parametrize(
    ("settings", "board", "note"),
    [
        ({"model": "org/unknown", "max_model_len": 1}, Board("a", A100), "does not know org/unk"),
        ({"model": BIG}, Board("a", A100), "max_model_len is not set"),
        ({"model": BIG}, Board("cpu", None), "profile cpu has no GPU"),
        ({"model": BIG}, None, "no --profile"),
        ({}, Board("a", A100), "no model: this node will serve nothing"),
        (
            {"model": BIG, "max_model_len": 32768, "tensor_parallel_size": 4},
            Board("a", A100),
            "room for 15 sequences of full length",
        ),
    ],
)
def test_what_else_is_worth_knowing(
    settings: dict[str, object], board: Board | None, note: str
) -> None:
    report = check_seed(seed(**settings), board, SHAPES)
    assert not report.problems
    assert note in report.notes[0]


def test_without_a_gpu_there_is_nothing_to_share() -> None:
    (problem,) = check_seed(seed(tensor_parallel_size=2), Board("cpu", None), {}).problems
    assert "this node has none" in problem


@pytest.mark.parametrize("active", [frozenset(), frozenset(RULES)])
def test_the_example_is_a_good_seed(active: frozenset[str]) -> None:
    text = example_seed("gpu-07", "a100", active=active)
    found = judge({USER: text.encode()}, gpus=8)
    assert not found.problems
    assert found.inference is not None
    assert set(found.inference.settings()) == active
    assert found.user == {"hostname": "gpu-07"}


def test_new_writes_what_check_likes(call: Call, tmp_path: Path) -> None:
    path = tmp_path / "node.yaml"
    assert call("seed", "new", "--hostname", "gpu-07", "-o", str(path)).code == 0
    ended = call("seed", "check", str(path))
    assert ended.code == 0
    assert ended.out.startswith(f"{path}: good\nhostname: gpu-07\n")
    again = call("seed", "new", "-o", str(path))
    assert (again.code, "is there already" in again.err) == (2, True)
    assert call("seed", "new").out.startswith("#cloud-config\n")
    assert call("seed", "new", "--hostname", "a b").code == 2
    assert call("seed", "new", "-p", "nonesuch").code == 2


def test_check_tells_everything_by_the_profile(call: Call, files: Files) -> None:
    files.profile(GPU_PROFILE, "a100")
    path = files.write("bad.yaml", seed(tensor_parallel_size=3, max_model_len=-5))
    ended = call("seed", "check", str(path), "--profile", "a100")
    assert ended.code == 2
    first, second = ended.err.splitlines()
    assert first == (
        f"imgbuild: {path}: inference.max_model_len: -5 is less than 1 "
        "(hint: between 1 and 16777216)"
    )
    assert "3 does not divide the 8 GPUs" in second
    told = json.loads(call("seed", "check", str(path), "-p", "a100", "--json").out)
    assert len(told["problems"]) == 2
    assert call("seed", "check", str(path), "-p", "a100", "--json").code == 2


def test_check_needs_a_file(call: Call) -> None:
    ended = call("seed", "check", "nonesuch.yaml")
    assert ended.code == 2
    assert "nonesuch.yaml: cannot be read: No such file" in ended.err


def test_a_profile_counts_its_gpus(files: Files) -> None:
    files.profile(GPU_PROFILE, "a100")
    gpu = files.resolve("a100").profile.gpu
    assert gpu is not None
    assert (gpu.count, gpu.memory) == (8, 80 * GIB)
    assert files.resolve("cpu").profile.gpu is None
    files.profile(GPU_PROFILE.replace("count: 8", "count: 0, fans: 2"), "a100")
    told = files.problems("a100")
    assert any("gpu.count: 0 must be greater than or equal to 1" in one for one in told)
    assert any("gpu.fans: unknown key" in one for one in told)


def test_a_table_of_models_with_mistakes(files: Files) -> None:
    assert load_shapes(files.project) == {}
    files.write("config/models.yaml", "models: {a/b: {layers: 0}}\n")
    with pytest.raises(ConfigError) as caught:
        load_shapes(files.project)
    assert any("models.a/b.layers" in one for one in caught.value.problems)


def test_the_shape_of_a_model_is_closed() -> None:
    assert Shape.model_json_schema()["additionalProperties"] is False
    assert "gpu" in Profile.model_fields


@pytest.mark.parametrize(
    ("key", "good"),
    [
        ("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI you@desk", True),
        ("sk-ssh-ed25519@openssh.com AAAAGnNr= token", True),
        ("-----BEGIN OPENSSH PRIVATE KEY-----", False),
        ('command="sh" ssh-ed25519 AAAAC3', False),
        ("ssh-ed25519 AAAA\nssh-rsa AAAA", False),
        ("ssh-dss AAAA", False),
    ],
)
def test_a_site_takes_public_keys_only(key: str, good: bool) -> None:
    if good:
        assert fakes.site(ssh_authorized_keys=(key,)).ssh_authorized_keys == (key,)
    else:
        with pytest.raises(ValueError, match="ssh_authorized_keys"):
            Site.model_validate(fakes.site().model_dump() | {"ssh_authorized_keys": (key,)})
