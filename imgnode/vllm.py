"""Which of vLLM's own flags and variables a seed may set.

An allow-list: what is not named here cannot be reached from a seed. Left out on purpose is
what runs foreign code, opens ports, reads files of the host, or turns off the metrics that
the health checks live on. Names and choices as in `vllm serve --help=all` of 0.32.0.
"""

from __future__ import annotations

from imgnode.rules import Choice, Environment, Range, Table, Text, Truth

_MILLION = 1_000_000
_TOKENIZERS = (
    "auto",
    "hf",
    "mistral",
    "cohere",
    "deepseek_v32",
    "deepseek_v4",
    "inkling",
    "kimi_k3",
)
_PARSER = Text(r"[a-z0-9][a-z0-9_.-]{0,63}", "a parser that vLLM knows, such as hermes")

EXTRA_ARGS = Table(
    {
        "block-size": Range(1, 256),
        "chat-template-content-format": Choice(("auto", "string", "openai")),
        "cpu-offload-gb": Range(0, 4096, fraction=True),
        "distributed-executor-backend": Choice(("uni", "mp")),
        "enable-auto-tool-choice": Truth(),
        "enable-chunked-prefill": Truth(),
        "enable-expert-parallel": Truth(),
        "enable-prefix-caching": Truth(),
        "enforce-eager": Truth(),
        "generation-config": Choice(("auto", "vllm")),
        "kv-cache-dtype": Choice(("auto", "bfloat16", "float16", "fp8", "fp8_e4m3", "fp8_e5m2")),
        "load-format": Choice(("auto", "safetensors", "mistral")),
        "max-logprobs": Range(0, 100),
        "max-num-batched-tokens": Range(1, 16 * _MILLION),
        "reasoning-parser": _PARSER,
        "seed": Range(0, 2**32 - 1),
        "tokenizer-mode": Choice(_TOKENIZERS),
        "tool-call-parser": _PARSER,
    },
    refused={
        "trust-remote-code": "it would run code that comes with the weights",
        "api-key": "use inference.api_key",
        "disable-log-stats": "health and alerts live on these numbers",
    },
)

_CREDENTIAL = r".*(?:TOKEN|SECRET|PASSWORD|CREDENTIALS?|_KEY)"

ENVIRONMENT = Environment(
    names=r"(?:VLLM|NCCL|TORCH|TORCHINDUCTOR|OMP|MKL|ONEDNN)_[A-Z0-9_]{1,60}|HF_TOKEN|HF_HUB_[A-Z_]{1,40}"
    r"|PYTORCH_CUDA_ALLOC_CONF|PYTORCH_ALLOC_CONF|TOKENIZERS_PARALLELISM",
    secret=_CREDENTIAL,
    looks="VLLM_*, NCCL_*, TORCH_*, TORCHINDUCTOR_*, OMP_*, MKL_*, ONEDNN_*, HF_TOKEN, HF_HUB_*, "
    "PYTORCH_CUDA_ALLOC_CONF, TOKENIZERS_PARALLELISM",
    refused={
        "HF_HUB_OFFLINE": "the node fetches models itself",
        "TORCHINDUCTOR_CACHE_DIR": "the node sets it",
        "VLLM_API_KEY": "use inference.api_key",
        "VLLM_ALLOW_INSECURE_SERIALIZATION": "it would run code that comes over the network",
        "VLLM_CACHE_ROOT": "the node sets it",
        "VLLM_HOST_IP": "the node sets addresses",
        "VLLM_LOGGING_CONFIG_PATH": "it would load code that is not part of the image",
        "VLLM_MODEL_REDIRECT_PATH": "use inference.model",
        "VLLM_PLUGINS": "it would load code that is not part of the image",
        "VLLM_PORT": "the profile says the port",
        "VLLM_RUST_FRONTEND_PATH": "it would run a program that is not part of the image",
        "VLLM_SERVER_DEV_MODE": "it opens doors for developers",
        "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "it lets callers load files",
    },
)
