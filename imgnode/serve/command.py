"""The command line that starts the server: pure, so that it can be shown and compared.

Values from the seed, secrets above all, are named but never written here: Docker takes
them from the environment of its client (`--env NAME`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from imgnode.serve import gpus
from imgnode.serve.facts import Facts, Machine
from imgnode.serve.gpus import Handed
from imgnode.serve.names import API_KEY, FIXED_ENV, HF_TOKEN, NAME

NETWORK = "imgnode"
SLICE = "imgnode-vllm.slice"
UID = 970  # image/users.conf; files on /var belong to it
_INNER_PORT = 8000
_TMP = 1 << 30
_SETTINGS: Mapping[str, str] = {
    "max_model_len": "max-model-len",
    "gpu_memory_utilization": "gpu-memory-utilization",
    "tensor_parallel_size": "tensor-parallel-size",
    "pipeline_parallel_size": "pipeline-parallel-size",
    "dtype": "dtype",
    "quantization": "quantization",
    "max_num_seqs": "max-num-seqs",
}
_SPREAD = tuple((key, flag) for key, flag in _SETTINGS.items() if key.endswith("parallel_size"))
_NO_NEGATIVE = frozenset({"disable-log-stats", "headless", "grpc"})  # vLLM 0.32.0


@dataclass(frozen=True)
class Launch:
    """Everything that one start is made of; `weights` and `cache` are folders of the node.

    `image` is what `docker run` is told: a reference by digest, or the ID of a copy. `confined`
    is the AppArmor profile that the kernel holds for it, None: Docker's own where there is one.
    """

    facts: Facts
    machine: Machine
    image: str
    settings: Mapping[str, Any]
    weights: Path
    cache: Path
    gpus: Handed | None = None
    confined: str | None = None


def argv(launch: Launch) -> list[str]:
    """Return the whole command line of `docker run`."""
    serve = launch.facts.serve
    memory = memory_limit(launch.facts, launch.machine)
    return [
        "docker",
        "run",
        f"--name={NAME}",
        "--pull=never",
        "--restart=no",  # systemd restarts it
        "--log-driver=none",  # its output is attached, and goes to the journal from here
        "--read-only",
        "--cap-drop=ALL",
        "--security-opt=no-new-privileges",
        *([f"--security-opt=apparmor={launch.confined}"] if launch.confined else ()),
        f"--user={UID}:{UID}",
        f"--network={NETWORK}",
        f"--publish={serve.port}:{_INNER_PORT}",
        f"--shm-size={serve.shm}",
        f"--memory={memory}",
        f"--memory-swap={memory}",
        *_processors(launch),
        f"--pids-limit={serve.pids}",
        "--ulimit=nofile=65536:65536",
        # exec: /cache must be executable for compiled kernels, so noexec here would protect nothing
        f"--tmpfs=/tmp:rw,exec,nosuid,nodev,size={_TMP}",
        f"--mount=type=bind,src={launch.weights},dst=/model,readonly",
        f"--mount=type=bind,src={launch.cache},dst=/cache",
        *(gpus.arguments(launch.gpus) if launch.gpus else ()),
        *_environment(launch),
        launch.image,
        *server_flags(launch),
    ]


def memory_limit(facts: Facts, machine: Machine) -> int:
    """Return how much memory the container may take, in bytes."""
    return machine.memory * facts.serve.memory_percent // 100


def spread(facts: Facts, settings: Mapping[str, Any]) -> tuple[int, int]:
    """Return tensor and pipeline parallelism, by which the server spreads the model over GPUs."""
    flags = {
        **facts.serve.args,
        **{flag: settings[key] for key, flag in _SPREAD if key in settings},
    }
    tensor, pipeline = (int(flags.get(flag, 1)) for _, flag in _SPREAD)
    return tensor, pipeline


def gpus_used(facts: Facts, settings: Mapping[str, Any]) -> int:
    """Return on how many GPUs the server spreads the model."""
    return prod(spread(facts, settings))


def served_name(settings: Mapping[str, Any]) -> str:
    """Return the name that clients ask for."""
    name: str = settings.get("served_name") or settings["model"]
    return name


def named_variables(settings: Mapping[str, Any]) -> list[str]:
    """Return the variables whose values come from the client's environment.

    HF_TOKEN is not among them: the node fetches models, the server stays offline.
    """
    names = [name for name in settings.get("env") or {} if name not in {*FIXED_ENV, HF_TOKEN}]
    return sorted([*names, *([API_KEY] if settings.get("api_key") else [])])


def _processors(launch: Launch) -> list[str]:
    """Return a share of the processors, or the slice that is bound to those next to the GPUs.

    Not --cpuset-cpus: runc before 1.1.6 tells systemd of other processors than are meant once
    there are more than 8, and the next daemon-reload moves the container to those.
    """
    placement = launch.gpus.placement if launch.gpus else None
    cpus = max(1, launch.machine.cpus - launch.facts.serve.cpus_reserved)
    share = [] if placement and placement.cpus else [f"--cpus={cpus}"]
    bound = placement and (placement.cpus or placement.nodes)
    return [*share, f"--cgroup-parent={SLICE}"] if bound else share


def _environment(launch: Launch) -> list[str]:
    named = named_variables(launch.settings)
    profile = {name: one for name, one in launch.facts.serve.env.items() if name not in named}
    gpu = gpus.variables(launch.gpus, profile) if launch.gpus else {}
    fixed = {**profile, **gpu, **FIXED_ENV}
    return [
        *(f"--env={name}={value}" for name, value in sorted(fixed.items())),
        *(f"--env={name}" for name in named),
    ]


def server_flags(launch: Launch) -> list[str]:
    """Return vLLM's flags: the profile's, over them the seed's, over those what the node fixes."""
    settings = launch.settings
    chosen = {flag: settings[key] for key, flag in _SETTINGS.items() if key in settings}
    flags: dict[str, Any] = {
        **launch.facts.serve.args,
        **chosen,
        **(settings.get("extra_args") or {}),
    }
    fixed = {
        "model": "/model",
        "served-model-name": served_name(settings),
        "host": "0.0.0.0",  # noqa: S104 - inside the container's own network
        "port": _INNER_PORT,
    }
    rest = {name: value for name, value in flags.items() if name not in fixed}
    pairs = [*fixed.items(), *sorted(rest.items())]
    return [word for name, value in pairs for word in _flag(name, value)]


def _flag(name: str, value: object) -> list[str]:
    if value is True:
        return [f"--{name}"]
    if value is False:
        return [] if name in _NO_NEGATIVE else [f"--no-{name}"]
    return [f"--{name}={value}"]
