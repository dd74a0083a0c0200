"""Fills vLLM's cache of what it knows about model classes: `warm.py OUT`.

Without it, the first start with a model starts a second Python only to look at its class.
"""

import os
import sys

os.environ["VLLM_CACHE_ROOT"] = f"{sys.argv[1]}/vllm"

from vllm.model_executor.models import registry

ARCHITECTURES = (
    "LlamaForCausalLM",
    "MistralForCausalLM",
    "Phi3ForCausalLM",
    "Qwen2ForCausalLM",
    "Qwen3ForCausalLM",
)

registry._run_in_subprocess = lambda work: work()  # one process for all of them
for name in ARCHITECTURES:
    registry.ModelRegistry.models[name].inspect_model_cls()
