"""Whether a model fits into the memory of a profile's GPUs.

On each GPU, with T the tensor and P the pipeline parallelism:

    weights   = parameters * bytes per parameter / (T * P)
    one token = 2 (key and value) * layers / P * max(1, kv heads / T) * head dim * bytes
    sequence  = one token * max_model_len

vLLM refuses to start when the cache does not hold one sequence of max_model_len, so weights
and one sequence must fit into gpu_memory_utilization * memory. Activations, CUDA graphs and
the runtime come on top and are left out: what is refused here can never fit, what passes
may still be tight. Source: Kwon et al., "Efficient Memory Management for Large Language Model
Serving with PagedAttention" (SOSP 2023), section 3, with kv heads * head dim in the place of
the hidden size, for grouped-query attention.
"""

from __future__ import annotations

from dataclasses import dataclass

from builder.model.shapes import Shape
from imgnode.inference import Inference

UTILIZATION = 0.9  # vLLM's default
_WEIGHTS = {"fp8": 1.0, "bitsandbytes": 0.5, "awq": 0.5, "awq_marlin": 0.5}
_WEIGHTS |= {"gptq": 0.5, "gptq_marlin": 0.5}
_GIB = 1 << 30


@dataclass(frozen=True)
class Estimate:
    """Bytes on each GPU: what may be used, the weights, the cache of one full sequence."""

    usable: int
    weights: int
    sequence: int

    @property
    def fits(self) -> bool:
        """Whether the weights and one sequence of full length fit."""
        return self.weights + self.sequence <= self.usable

    @property
    def sequences(self) -> int:
        """How many sequences of full length the cache holds at most."""
        return max(0, (self.usable - self.weights) // self.sequence)


def estimate(config: Inference, shape: Shape, memory: int, length: int) -> Estimate:
    """Return what a config takes on each GPU of `memory` bytes, for `length` tokens a sequence."""
    tensor = config.tensor_parallel_size or 1
    pipeline = config.pipeline_parallel_size or 1
    weights = shape.parameters * _weight_bytes(config, shape) / (tensor * pipeline)
    layers = -(-shape.layers // pipeline)
    kv_heads = max(1, shape.kv_heads // tensor)
    token = 2 * layers * kv_heads * shape.head_dim * _kv_bytes(config, shape)
    share = config.gpu_memory_utilization or UTILIZATION
    return Estimate(int(memory * share), int(weights), token * length)


def gib(size: int) -> str:
    """Return a size for people."""
    return f"{size / _GIB:.1f} GiB"


def _weight_bytes(config: Inference, shape: Shape) -> float:
    stored = _WEIGHTS.get(config.quantization or "", shape.bytes_per_parameter)
    if config.dtype in ("float", "float32") and config.quantization is None:
        return max(stored, 4.0)
    return min(stored, shape.bytes_per_parameter)


def _kv_bytes(config: Inference, shape: Shape) -> int:
    kind = (config.extra_args or {}).get("kv-cache-dtype", "auto")
    if str(kind).startswith("fp8"):
        return 1
    return 4 if config.dtype in ("float", "float32") else shape.kv_bytes
