"""Judges a seed on the build host, by the node's own model and by what the GPUs can hold."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from builder.model.profile import Gpu
from builder.model.shapes import Shape
from builder.seed.estimate import estimate, gib
from imgnode.backupconfig import Backup
from imgnode.inference import KEY, Inference
from imgnode.problems import Problem
from imgnode.seed import USER, judge


@dataclass(frozen=True)
class Board:
    """What a profile offers; `gpu` is None for a profile without."""

    profile: str
    gpu: Gpu | None


@dataclass(frozen=True)
class Report:
    """What is wrong with a seed, what else is worth knowing, and its configs if they are good."""

    problems: tuple[str, ...]
    notes: tuple[str, ...]
    config: Inference | None
    hostname: str | None
    backup: Backup | None


def check_seed(data: bytes, board: Board | None, shapes: Mapping[str, Shape]) -> Report:
    """Judge the user-data `data` of a node with that board (None: any board)."""
    gpus = None if board is None else board.gpu.count if board.gpu else 0
    seed = judge({USER: data}, gpus=gpus)
    problems = list(seed.problems)
    notes: list[str] = []
    if seed.inference is not None:
        more, notes = _model(seed.inference, board, shapes)
        problems += more
    if not seed.user.get("ssh_authorized_keys") and not seed.user.get("users"):
        notes.append("no ssh_authorized_keys: only the site's keys will open this node")
    host = seed.user.get("hostname")
    return Report(tuple(map(str, problems)), tuple(notes), seed.inference, host, seed.backup)


def _model(
    config: Inference, board: Board | None, shapes: Mapping[str, Shape]
) -> tuple[list[Problem], list[str]]:
    """Return what is wrong with the model on this board, and what cannot be told."""
    if config.model is None:
        return [], ["no model: this node will serve nothing"]
    shape = shapes.get(config.model)
    unknown = _unknown(config, board, shape)
    wrong = _heads(config, shape) if shape else []
    if wrong or unknown or shape is None or board is None or board.gpu is None:
        return wrong, unknown
    return _memory(config, shape, board.gpu.memory or 0, config.max_model_len or 0)


def _unknown(config: Inference, board: Board | None, shape: Shape | None) -> list[str]:
    """Return why the memory cannot be estimated."""
    if board is None:
        return ["no --profile: GPUs and memory are not checked"]
    if board.gpu is None:
        return [f"profile {board.profile} has no GPU: memory is not checked"]
    if board.gpu.memory is None:
        return [f"profile {board.profile} does not say how much memory a GPU has: not checked"]
    if shape is None:
        return [f"cannot estimate memory: config/models.yaml does not know {config.model}"]
    if config.max_model_len is None:
        return ["cannot estimate memory: max_model_len is not set, so the model decides"]
    return []


def _heads(config: Inference, shape: Shape) -> list[Problem]:
    tensor = config.tensor_parallel_size or 1
    if shape.heads % tensor == 0:
        return []
    fact = f"{tensor} does not divide the {shape.heads} attention heads of {config.model}"
    fitting = ", ".join(str(n) for n in range(1, 65) if shape.heads % n == 0)
    return [Problem(f"{KEY}.tensor_parallel_size", fact, f"fitting: {fitting}")]


def _memory(
    config: Inference, shape: Shape, memory: int, length: int
) -> tuple[list[Problem], list[str]]:
    found = estimate(config, shape, memory, length)
    parts = (
        f"on each GPU {gib(found.weights)} of weights and {gib(found.sequence)} for one "
        f"sequence of {length} tokens; {gib(found.usable)} of {gib(memory)} may be used"
    )
    if found.fits:
        limit = f" (max_num_seqs: {config.max_num_seqs})" if config.max_num_seqs else ""
        room = f"room for {found.sequences} sequences of full length at once{limit}"
        return [], [f"memory: {parts}; {room}, before activations"]
    if found.weights >= found.usable:
        key, hint = "tensor_parallel_size", "use more GPUs, or quantized weights"
    else:
        longest = (found.usable - found.weights) * length // found.sequence
        key, hint = "max_model_len", f"at most {longest} fits"
    return [Problem(f"{KEY}.{key}", f"does not fit: {parts}", hint)], []
