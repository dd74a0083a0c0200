"""A folder that plays the root of a node with a container and one model bundle."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

MODEL = "HuggingFaceTB/SmolLM2-135M-Instruct"
BUNDLE = "ab" * 32
DIGEST = "0123456789abcdef" * 4
REFERENCE = f"imgbuild/vllm-cpu@sha256:{DIGEST}"
SERVE: dict[str, Any] = {
    "port": 8000,
    "memory_percent": 90,
    "cpus_reserved": 1,
    "shm": 1 << 30,
    "pids": 8192,
    "start_timeout_s": 600,
    "args": {"enforce-eager": True, "max-model-len": 2048},
    "env": {"VLLM_CPU_KVCACHE_SPACE": "1"},
}


def make(root: Path, inference: dict[str, Any] | None = None, **image: Any) -> Path:  # noqa: ANN401
    """Fill the folder; `image` are other facts of image.json."""
    facts = {"image_id": "x", "version": "1", "gpus": 0, "serve": SERVE, "models": None, **image}
    put(root / "usr/lib/imgnode/image.json", facts)
    container = {
        "repository": "imgbuild/vllm-cpu",
        "tag": "1",
        "digest": DIGEST,
        "image_id": "cd" * 32,
        "config": "{}",
        "layers": [],
    }
    bundle = {"model": MODEL, "revision": "main", "root_hash": BUNDLE}
    payload = {"schema_version": 1, "container": container, "models": [bundle], "files": []}
    put(root / "usr/lib/imgnode/payload.json", payload)
    put(root / f"run/imgnode/layers/{BUNDLE}/config.json", {})
    put(root / "proc/sys/kernel/random/boot_id", "boot-1")
    (root / "proc/meminfo").write_text("MemTotal:       10485760 kB\nMemFree: 1 kB\n")
    seed(root, {"model": MODEL} if inference is None else inference)
    return root


def seed(root: Path, inference: dict[str, Any]) -> None:
    """Have another config in force."""
    node = {"inference": inference, "source": "seed", "replaced": [], "device": "/dev/vda5"}
    put(root / "run/imgnode/node.json", node)


def put(path: Path, value: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(value if isinstance(value, str) else json.dumps(value))


def told(root: Path) -> dict[str, Any]:
    """Return what the service said last."""
    value: dict[str, Any] = json.loads((root / "run/imgnode/serve.json").read_text())
    return value


def prom(root: Path) -> dict[str, float]:
    """Return the metrics by name and labels."""
    lines = (root / "run/imgnode/metrics/serve.prom").read_text().splitlines()
    pairs = [line.rsplit(" ", 1) for line in lines if not line.startswith("#")]
    return {name: float(value) for name, value in pairs}
