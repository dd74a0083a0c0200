"""The command line of the container: complete, harmless, without secrets."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from imgnode.inference import EXAMPLES, RULES
from imgnode.serve.command import (
    Launch,
    argv,
    named_variables,
    server_flags,
)
from imgnode.serve.facts import Facts, Machine, ServeFacts
from imgnode.serve.names import FIXED_ENV
from imgnode.serve.secrets import resolve
from tests.unit.serve_node import MODEL, REFERENCE, SERVE

FULL: dict[str, Any] = {
    "model": MODEL,
    "revision": "main",
    "served_name": "chat",
    "max_model_len": 8192,
    "gpu_memory_utilization": 0.9,
    "tensor_parallel_size": 2,
    "pipeline_parallel_size": 1,
    "dtype": "bfloat16",
    "quantization": "fp8",
    "max_num_seqs": 64,
    "extra_args": {"enforce-eager": False, "seed": 7, "enable-prefix-caching": True},
    "env": {
        "VLLM_CPU_KVCACHE_SPACE": "4",
        "VLLM_LOGGING_LEVEL": "DEBUG",
        "HF_TOKEN": {"secret": "hf"},
    },
    "api_key": {"secret": "key"},
}


def launch(settings: dict[str, Any], **serve: Any) -> Launch:  # noqa: ANN401 - any fact
    facts = Facts(0, ServeFacts(**{**SERVE, **serve}), None)
    machine = Machine(10 << 30, 4)
    return Launch(facts, machine, REFERENCE, settings, Path("/weights"), Path("/var/cache/x"))


GOLDEN = f"""docker
run
--name=vllm
--pull=never
--restart=no
--log-driver=none
--read-only
--cap-drop=ALL
--security-opt=no-new-privileges
--user=970:970
--network=imgnode
--publish=8000:8000
--shm-size=1073741824
--memory=9663676416
--memory-swap=9663676416
--cpus=3
--pids-limit=8192
--ulimit=nofile=65536:65536
--tmpfs=/tmp:rw,exec,nosuid,nodev,size=1073741824
--mount=type=bind,src=/weights,dst=/model,readonly
--mount=type=bind,src=/var/cache/x,dst=/cache
--env=DO_NOT_TRACK=1
--env=HF_HOME=/cache/huggingface
--env=HF_HUB_OFFLINE=1
--env=HOME=/cache
--env=TORCHINDUCTOR_CACHE_DIR=/cache/inductor
--env=TRANSFORMERS_OFFLINE=1
--env=TRITON_CACHE_DIR=/cache/triton
--env=USER=vllm
--env=VLLM_CACHE_ROOT=/cache/vllm
--env=VLLM_NO_USAGE_STATS=1
--env=XDG_CACHE_HOME=/cache
--env=VLLM_API_KEY
--env=VLLM_CPU_KVCACHE_SPACE
--env=VLLM_LOGGING_LEVEL
{REFERENCE}
--model=/model
--served-model-name=chat
--host=0.0.0.0
--port=8000
--dtype=bfloat16
--enable-prefix-caching
--no-enforce-eager
--gpu-memory-utilization=0.9
--max-model-len=8192
--max-num-seqs=64
--pipeline-parallel-size=1
--quantization=fp8
--seed=7
--tensor-parallel-size=2"""


def test_the_whole_command_line() -> None:
    assert "\n".join(argv(launch(FULL))) == GOLDEN


def test_the_least_config() -> None:
    words = argv(launch({"model": MODEL}))
    assert words[words.index(REFERENCE) + 1 :] == [
        "--model=/model",
        f"--served-model-name={MODEL}",
        "--host=0.0.0.0",
        "--port=8000",
        "--enforce-eager",
        "--max-model-len=2048",
    ]
    assert "--env=VLLM_CPU_KVCACHE_SPACE=1" in words
    assert not [word for word in words if word == "--env=VLLM_API_KEY"]


def test_every_key_of_the_config_has_an_effect() -> None:
    """A key that nothing acts on would be a promise that is not kept."""
    plain = argv(launch({"model": MODEL}))
    fetch_only = {"revision"}
    for key in set(RULES) - fetch_only - {"model"}:
        assert argv(launch({"model": MODEL, key: EXAMPLES[key]})) != plain or key == "env", key
    env = {"VLLM_LOGGING_LEVEL": "DEBUG"}
    assert argv(launch({"model": MODEL, "env": env})) != plain


def test_no_value_of_the_seed_env_and_no_secret_is_in_it() -> None:
    found = resolve(FULL, {"hf": "SECRET-token", "key": "SECRET-key"}.get)
    assert found.env == {
        "VLLM_CPU_KVCACHE_SPACE": "4",
        "VLLM_LOGGING_LEVEL": "DEBUG",
        "VLLM_API_KEY": "SECRET-key",
    }
    assert found.hf_token == "SECRET-token"
    assert sorted(found.env) == named_variables(FULL)
    assert "SECRET" not in GOLDEN
    assert "DEBUG" not in GOLDEN
    assert "SECRET" not in repr(found)


def test_the_server_never_gets_the_token_of_the_mirror() -> None:
    assert "HF_TOKEN" not in "\n".join(argv(launch(FULL)))


def test_what_the_node_fixes_cannot_be_undone() -> None:
    """Neither by a profile nor by a seed of an image with other rules."""
    args = {"host": "::", "port": 1, "model": "other", "served-model-name": "x"}
    settings = {"model": MODEL, "env": {"HF_HUB_OFFLINE": "0", "HOME": "/root"}}
    words = argv(launch(settings, args=args, env=dict.fromkeys(FIXED_ENV, "bad")))
    assert "--host=0.0.0.0" in words
    assert not [word for word in words if word.endswith(("=::", "=other", "=1x", "=bad"))]
    assert {f"--env={name}={value}" for name, value in FIXED_ENV.items()} <= set(words)
    assert "--env=HOME" not in words
    assert resolve(settings, lambda _: None).env == {}


def test_flags() -> None:
    args = {"a": 1.5, "b": "text", "c": False, "disable-log-stats": False, "d": True}
    flags = server_flags(launch({"model": MODEL}, args=args))[4:]
    assert flags == ["--a=1.5", "--b=text", "--no-c", "--d"]


@pytest.mark.parametrize(
    ("cpus", "reserved", "told"), [(8, 2, "--cpus=6"), (2, 4, "--cpus=1"), (1, 0, "--cpus=1")]
)
def test_at_least_one_processor(cpus: int, reserved: int, told: str) -> None:
    one = launch({"model": MODEL}, cpus_reserved=reserved)
    assert told in argv(dataclasses.replace(one, machine=Machine(1 << 30, cpus)))


def test_a_profile_of_apparmor_is_named_where_there_is_one() -> None:
    plain = launch(FULL)
    option = "--security-opt=apparmor=imgnode-vllm"
    assert not any("apparmor" in word for word in argv(plain))
    words = argv(dataclasses.replace(plain, confined="imgnode-vllm"))
    assert [word for word in words if word not in argv(plain)] == [option]
    assert words.index(option) < words.index(REFERENCE)
