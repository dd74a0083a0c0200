"""Names that the container, and what looks after it, have in common."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

NAME = "vllm"
TOLD = Path("run/imgnode/serve.json")  # imgnode/serve/report.py
STATES = LOADING, SERVING, FAILED, SKIPPED, STOPPED = (
    "loading",
    "serving",
    "failed",
    "skipped",
    "stopped",
)
# Phases of `loading` that may take long, whatever the config; they count against no time limit.
UNTIMED = FETCH, COPY = ("fetch", "copy")
TRIES = 3  # starts of a config until the proven one has its turn
API_KEY = "VLLM_API_KEY"
HF_TOKEN = "HF_TOKEN"  # noqa: S105 - the name of a variable
# The uid has no entry in the passwd of foreign images: what asks for a home or a name gets it here.
FIXED_ENV: Mapping[str, str] = {
    "HOME": "/cache",
    "USER": "vllm",
    "XDG_CACHE_HOME": "/cache",
    "VLLM_CACHE_ROOT": "/cache/vllm",
    "TORCHINDUCTOR_CACHE_DIR": "/cache/inductor",
    "TRITON_CACHE_DIR": "/cache/triton",
    "HF_HOME": "/cache/huggingface",
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "DO_NOT_TRACK": "1",
}
