"""The model of the `inference:` key: types, ranges, allow-lists, secrets."""

from __future__ import annotations

from typing import Any

import pytest

from imgnode.inference import DOCS, EXAMPLES, RULES, check, schema

FULL: dict[str, Any] = {
    "model": "Qwen/Qwen2.5-72B-Instruct",
    "revision": "refs/pr.1",
    "served_name": "chat:72b",
    "max_model_len": 32768,
    "gpu_memory_utilization": 0.92,
    "tensor_parallel_size": 4,
    "pipeline_parallel_size": 2,
    "dtype": "bfloat16",
    "quantization": "fp8",
    "max_num_seqs": 64,
    "extra_args": {"enable-prefix-caching": True, "max-num-batched-tokens": 8192},
    "env": {"VLLM_LOGGING_LEVEL": "INFO", "HF_TOKEN": {"secret": "hf-token"}},
    "api_key": {"secret": "api-key"},
}


def problems(value: object, gpus: int | None = 8) -> list[str]:
    config, found = check(value, gpus=gpus)
    assert (config is None) == bool(found)
    return [str(one) for one in found]


def test_every_key_set() -> None:
    config, found = check(FULL, gpus=8)
    assert not found
    assert config is not None
    assert config.settings() == FULL
    assert config.gpus == 8
    assert set(FULL) == set(RULES) == set(DOCS) == set(EXAMPLES)


def test_the_examples_are_good() -> None:
    assert problems(EXAMPLES) == []


@pytest.mark.parametrize("nothing", [None, {}])
def test_nothing_is_fine(nothing: object) -> None:
    config, found = check(nothing)
    assert not found
    assert config is not None
    assert config.settings() == {}


@pytest.mark.parametrize(
    ("key", "value", "told"),
    [
        ("max_model_len", -5, "-5 is less than 1 (hint: between 1 and 16777216)"),
        ("max_model_len", 1 << 40, "1099511627776 is more than 16777216"),
        ("max_model_len", "4096", '"4096" must be a whole number'),
        ("max_model_len", 4096.0, "4096.0 must be a whole number"),
        ("max_model_len", True, "true must be a whole number"),
        ("max_model_len", None, "null must be a whole number"),
        ("max_num_seqs", 0, "0 is less than 1"),
        ("gpu_memory_utilization", 1.5, "1.5 is more than 1"),
        ("gpu_memory_utilization", float("nan"), "NaN is no number"),
        ("gpu_memory_utilization", float("inf"), "Infinity is more than 1"),
        ("gpu_memory_utilization", 90, "90 is more than 1"),
        ("model", "../../etc/passwd", "does not fit"),
        ("model", "/absolute", "does not fit"),
        ("model", "a/b/c", "does not fit"),
        ("model", "a/b --trust-remote-code", "does not fit"),
        ("model", "a\n", "does not fit"),
        ("model", 7, "7 must be text (hint: put it in quotes)"),
        ("model", "x" * 500, "…"),
        ("revision", "../x", "does not fit"),
        ("revision", "-rf", "does not fit"),
        ("served_name", "a b", "does not fit"),
        ("dtype", "int8", '"int8" is not one of them (hint: auto, half'),
        ("dtype", ["auto"], '["auto"] is not one of them'),
        ("quantization", "fp9", "is not one of them"),
        ("extra_args", ["--seed"], "must be a map"),
        ("env", ["A=b"], "must be a map"),
    ],
)
def test_a_wrong_value(key: str, value: object, told: str) -> None:
    (found,) = problems({key: value})
    assert found.startswith(f"inference.{key}: ")
    assert told in found


def test_an_unknown_key_names_the_nearest_and_all() -> None:
    (found,) = problems({"max_model_length": 1})
    assert "inference.max_model_length: unknown key (hint: did you mean 'max_model_len'?" in found
    assert "known keys: api_key, dtype," in found


def test_all_problems_at_once() -> None:
    value = {"max_model_len": -5, "modl": "x", "dtype": 3, "tensor_parallel_size": 3}
    found = problems(value)
    assert [one.split(":")[0] for one in found] == [
        "inference.max_model_len",
        "inference.modl",
        "inference.dtype",
        "inference.tensor_parallel_size",
    ]


@pytest.mark.parametrize(
    ("gpus", "tensor", "pipeline", "told"),
    [
        (8, 3, 1, "tensor_parallel_size: 3 does not divide the 8 GPUs (hint: fitting here: 1, 2,"),
        (8, 16, 1, "16 needs 16 GPUs, this node has 8"),
        (8, 4, 4, "4 x 4 needs 16 GPUs, this node has 8"),
        (8, 3, 2, "3 x 2 does not divide the 8 GPUs"),
        (0, 2, 1, "2 needs 2 GPUs, this node has none (hint: fitting here: 1)"),
        (0, 1, 2, "pipeline_parallel_size: 1 x 2 needs 2 GPUs, this node has none"),
        (1, 2, 1, "2 needs 2 GPUs, this node has 1"),
        (8, 0, 1, "0 is less than 1"),
        (8, 65, 1, "65 is more than 64"),
    ],
)
def test_parallelism_must_fit_the_board(gpus: int, tensor: int, pipeline: int, told: str) -> None:
    value = {"tensor_parallel_size": tensor, "pipeline_parallel_size": pipeline}
    (found,) = problems(value, gpus)
    assert told in found


@pytest.mark.parametrize(
    ("gpus", "tensor", "pipeline"), [(8, 8, 1), (8, 2, 4), (6, 3, 1), (0, 1, 1), (None, 3, 1)]
)
def test_parallelism_that_fits(gpus: int | None, tensor: int, pipeline: int) -> None:
    value = {"tensor_parallel_size": tensor, "pipeline_parallel_size": pipeline}
    assert problems(value, gpus) == []


@pytest.mark.parametrize(
    "value",
    [
        {"api_key": "sk-SECRET"},
        {"api_key": {"value": "SECRET"}},
        {"api_key": {"secret": "SECRET value"}},
        {"api_key": {"secret": "a", "SECRET": 1}},
        {"api_key": ["SECRET"]},
        {"env": {"HF_TOKEN": "SECRET"}},
        {"env": {"NCCL_KEY": {"secret": "../SECRET"}}},
        {"env": {"VLLM_X_PASSWORD": "SECRET"}},
        {"env": {"LD_PRELOAD": "SECRET"}},
        {"env": {"VLLM_API_KEY": "SECRET"}},
        {"env": {"VLLM_LEVEL": "SECRET\nsecond line"}},
        {"env": {"VLLM_LEVEL": {"secret": 5}}},
        {"extra_args": {"api-key": "SECRET"}},
        {"extra_args": {"hf-token": "SECRET"}},
        {"apikey": "SECRET"},
    ],
)
def test_a_secret_is_never_told(value: object) -> None:
    (found,) = problems(value)
    assert "SECRET" not in found.replace("a reference to a secret", "")


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("trust-remote-code", True, "is not allowed (hint: it would run code"),
        ("disable-log-stats", True, "is not allowed (hint: health and alerts"),
        ("enable-prefix-cache", True, "did you mean 'enable-prefix-caching'?"),
        ("host", "0.0.0.0", "unknown key"),  # noqa: S104
        ("enforce-eager", "yes", '"yes" must be true or false'),
        ("max-logprobs", -1, "-1 is less than 0"),
        ("kv-cache-dtype", "fp4", "is not one of them"),
        ("tool-call-parser", "a; rm -rf /", "does not fit"),
        ("tokenizer-mode", "slow", "is not one of them"),  # gone in vLLM 0.32
        ("load-format", "gguf", "is not one of them"),  # gone in vLLM 0.32
        ("load-format", "runai_streamer", "is not one of them"),
        ("distributed-executor-backend", "ray", "is not one of them (hint: uni, mp)"),
    ],
)
def test_only_allowed_flags(name: str, value: object, told: str) -> None:
    (found,) = problems({"extra_args": {name: value}})
    assert found.startswith(f"inference.extra_args.{name}: ")
    assert told in found


@pytest.mark.parametrize("value", ["hello", 7, [1], True])
def test_it_must_be_a_map(value: object) -> None:
    (found,) = problems(value)
    assert "must be a map" in found


def test_a_message_stays_one_short_line() -> None:
    found = problems({"x\n\x1b[2J" * 100: 1, "model": "a\x1b[2J\n" * 100})
    assert all("\n" not in one and "\x1b" not in one for one in found)
    assert len(found[1]) < 200


def test_schema_is_closed_and_has_every_key() -> None:
    made = schema()
    assert made["additionalProperties"] is False
    assert set(made["properties"]) == set(RULES)
    assert made["properties"]["max_model_len"]["minimum"] == 1
    assert all(one["description"] for one in made["properties"].values())


@pytest.mark.parametrize(
    "name",
    [
        "VLLM_PORT",
        "VLLM_CACHE_ROOT",
        "VLLM_ALLOW_INSECURE_SERIALIZATION",
        "VLLM_LOGGING_CONFIG_PATH",
        "VLLM_RUST_FRONTEND_PATH",
        "HF_HUB_OFFLINE",
    ],
)
def test_variables_that_the_node_sets_or_that_load_code(name: str) -> None:
    (found,) = problems({"env": {name: "1"}})
    assert found.startswith(f"inference.env.{name}: is not allowed (hint: ")
