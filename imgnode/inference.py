"""The `inference:` key of a seed: what this node serves, and how.

The one model of it: `imgbuild seed check` judges a seed by it on the build host, the guard
judges the same seed by it on the node, and the JSON Schema for editors is made from it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from imgnode.problems import Problem
from imgnode.rules import Choice, Range, Rule, Secret, Table, Text
from imgnode.vllm import ENVIRONMENT, EXTRA_ARGS

KEY = "inference"
SECRETIVE = ("api_key", "env", "extra_args")  # what cannot be read here is not repeated
_PART = r"[A-Za-z0-9][A-Za-z0-9_.-]{0,95}"
_REVISION = r"[A-Za-z0-9][A-Za-z0-9_-]*(?:[./][A-Za-z0-9_-]+){0,8}"
_DTYPES = ("auto", "half", "float16", "bfloat16", "float", "float32")
_QUANTIZATIONS = (
    "awq",
    "awq_marlin",
    "compressed-tensors",
    "fp8",
    "gptq",
    "gptq_marlin",
    "inc",
    "modelopt",
    "modelopt_fp4",
    "moe_wna16",
    "mxfp4",
    "mxfp8",
    "quark",
)


def _about(rule: Rule, doc: str, example: object) -> dict[str, Any]:
    return {"rule": rule, "doc": doc, "example": example}


@dataclass(frozen=True)
class Inference:
    """What a node serves; None leaves a choice to vLLM, and no model means nothing to serve."""

    model: str | None = field(
        default=None,
        metadata=_about(
            Text(f"{_PART}(?:/{_PART})?", "ORGANISATION/NAME as on Hugging Face, or NAME"),
            "model to serve, by its Hugging Face name",
            "Qwen/Qwen2.5-7B-Instruct",
        ),
    )
    revision: str | None = field(
        default=None,
        metadata=_about(
            Text(_REVISION, "a branch, tag or commit"),
            "branch, tag or commit of the model; a commit never changes",
            "main",
        ),
    )
    served_name: str | None = field(
        default=None,
        metadata=_about(
            Text(r"[A-Za-z0-9][A-Za-z0-9._/:-]{0,127}", "letters, digits and . _ / : -"),
            "name that clients ask for; default: the model's own",
            "chat",
        ),
    )
    max_model_len: int | None = field(
        default=None,
        metadata=_about(
            Range(1, 16_777_216), "longest sequence in tokens, prompt and answer together", 8192
        ),
    )
    gpu_memory_utilization: float | None = field(
        default=None,
        metadata=_about(
            Range(0.05, 1, fraction=True), "share of each GPU's memory that vLLM may take", 0.9
        ),
    )
    tensor_parallel_size: int | None = field(
        default=None,
        metadata=_about(
            Range(1, 64),
            "GPUs that share each layer; times pipeline_parallel_size: the GPUs used",
            1,
        ),
    )
    pipeline_parallel_size: int | None = field(
        default=None,
        metadata=_about(Range(1, 64), "groups of GPUs that hold the layers one after the other", 1),
    )
    dtype: str | None = field(
        default=None,
        metadata=_about(Choice(_DTYPES), "number format of weights and activations", "auto"),
    )
    quantization: str | None = field(
        default=None,
        metadata=_about(
            Choice(_QUANTIZATIONS),
            "how the weights are quantized; default: as the model says",
            "fp8",
        ),
    )
    max_num_seqs: int | None = field(
        default=None, metadata=_about(Range(1, 65_536), "most sequences worked on at once", 64)
    )
    extra_args: dict[str, Any] | None = field(
        default=None,
        metadata=_about(
            EXTRA_ARGS, "further flags of vLLM, by name without --", {"enable-prefix-caching": True}
        ),
    )
    env: dict[str, Any] | None = field(
        default=None,
        metadata=_about(
            ENVIRONMENT,
            "variables for the server; values are text or {secret: NAME}",
            {"HF_TOKEN": {"secret": "hf-token"}},
        ),
    )
    api_key: dict[str, str] | None = field(
        default=None,
        metadata=_about(
            Secret(), "key that clients must show, as {secret: NAME}", {"secret": "api-key"}
        ),
    )

    def settings(self) -> dict[str, Any]:
        """Return what is set, as it would stand in a seed."""
        return {name: value for name, value in asdict(self).items() if value is not None}

    @property
    def gpus(self) -> int:
        """How many GPUs the two kinds of parallelism take together."""
        return (self.tensor_parallel_size or 1) * (self.pipeline_parallel_size or 1)


RULES: Mapping[str, Rule] = {one.name: one.metadata["rule"] for one in fields(Inference)}
DOCS: Mapping[str, str] = {one.name: one.metadata["doc"] for one in fields(Inference)}
EXAMPLES: Mapping[str, Any] = {one.name: one.metadata["example"] for one in fields(Inference)}


def check(value: object, *, gpus: int | None = None) -> tuple[Inference | None, list[Problem]]:
    """Return the config that a value of `inference:` means, or None and all its problems.

    `gpus` is how many the node's profile has (0: none), None where that is not known.
    """
    given = {} if value is None else value
    found = Table(RULES).problems(KEY, given)
    if found or not isinstance(given, Mapping):
        # A wrong key elsewhere must not hide that the parallelism does not fit.
        return None, [*found, *_parallel(given, gpus, known_bad={one.key for one in found})]
    config = Inference(**given)
    problems = _parallel(given, gpus, known_bad=set())
    return (None, problems) if problems else (config, [])


def _parallel(given: object, gpus: int | None, known_bad: set[str]) -> list[Problem]:
    """Return what is wrong with tensor times pipeline parallelism on so many GPUs."""
    names = ("tensor_parallel_size", "pipeline_parallel_size")
    if gpus is None or not isinstance(given, Mapping):
        return []
    if any(f"{KEY}.{name}" in known_bad for name in names):
        return []
    sizes = [given.get(name) or 1 for name in names]
    used = sizes[0] * sizes[1]
    product = f"{sizes[0]} x {sizes[1]}" if sizes[1] > 1 else str(sizes[0])
    key = f"{KEY}.{names[0] if sizes[0] > 1 else names[1]}"
    if used > max(gpus, 1):
        has = f"this node has {gpus or 'none'}"
        return [Problem(key, f"{product} needs {used} GPUs, {has}", _fitting(gpus))]
    if gpus and gpus % used:
        return [Problem(key, f"{product} does not divide the {gpus} GPUs", _fitting(gpus))]
    return []


def _fitting(gpus: int) -> str:
    fitting = [str(n) for n in range(1, max(gpus, 1) + 1) if max(gpus, 1) % n == 0]
    return f"fitting here: {', '.join(fitting)}"


def schema() -> dict[str, Any]:
    """Return the JSON Schema of the key."""
    properties = {
        name: {"description": DOCS[name], **rule.schema()} for name, rule in RULES.items()
    }
    return {
        "description": "what this node serves, and how",
        "type": ["object", "null"],
        "properties": properties,
        "additionalProperties": False,
    }
