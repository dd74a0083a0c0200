"""What the child says of the GPUs (imgnode/gpu/nvml.py, `samples`), as metrics."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from imgnode.exporter.names import GPU
from imgnode.metrics import render

_MEGA, _MILLI, _PERCENT = 1e6, 1e-3, 1e-2
Values = dict[str, Any]
Labels = tuple[tuple[str, str], ...]

# Metric, the child's key, factor to the metric's unit.
_PLAIN = (
    ("imgnode_gpu_utilization_ratio", "utilization", _PERCENT),
    ("imgnode_gpu_memory_utilization_ratio", "memory_utilization", _PERCENT),
    ("imgnode_gpu_memory_used_bytes", "memory_used", 1),
    ("imgnode_gpu_memory_total_bytes", "memory", 1),
    ("imgnode_gpu_temperature_celsius", "temperature", 1),
    ("imgnode_gpu_memory_temperature_celsius", "memory_temperature", 1),
    ("imgnode_gpu_power_watts", "power", _MILLI),
    ("imgnode_gpu_power_limit_watts", "power_limit", _MILLI),
    ("imgnode_gpu_energy_joules_total", "energy", _MILLI),
    ("imgnode_gpu_pcie_replays_total", "pcie_replays", 1),
    ("imgnode_gpu_pcie_link_width", "pcie_width", 1),
    ("imgnode_gpu_pcie_link_generation", "pcie_generation", 1),
    ("imgnode_gpu_processes", "processes", 1),
    ("imgnode_gpu_row_remap_pending", "remap_pending", 1),
    ("imgnode_gpu_row_remap_failed", "remap_failed", 1),
)
# Metric, its label, and by value of the label: the child's key, factor.
_BY_LABEL: tuple[tuple[str, str, dict[str, tuple[str, float]]], ...] = (
    (
        "imgnode_gpu_clock_hertz",
        "clock",
        {"sm": ("clock_sm", _MEGA), "memory": ("clock_memory", _MEGA)},
    ),
    (
        "imgnode_gpu_ecc_errors_total",
        "type",
        {name: (f"ecc_{name}", 1) for name in ("corrected", "uncorrected")},
    ),
    (
        "imgnode_gpu_ecc_lifetime_errors_total",
        "type",
        {name: (f"ecc_lifetime_{name}", 1) for name in ("corrected", "uncorrected")},
    ),
    (
        "imgnode_gpu_remapped_rows_total",
        "type",
        {name: (f"remapped_{name}", 1) for name in ("corrected", "uncorrected")},
    ),
    (
        "imgnode_gpu_nvlink_errors_total",
        "type",
        {name: (f"nvlink_{name}", 1) for name in ("crc_flit", "crc_data", "replay", "recovery")},
    ),
)
_ROWS = ("remapped_corrected", "remapped_uncorrected", "remap_pending", "remap_failed")


def as_text(devices: list[Values], driver: str | None) -> str:
    """Return the metrics of all GPUs. Raises KeyError, TypeError for what is no sample."""
    found: dict[str, dict[Labels, float]] = {name: {} for name in GPU}
    for told in devices:
        rows = dict(zip(_ROWS, told.get("rows") or (), strict=False))
        device = {**told, **(told.get("fields") or {}), **rows}
        for name, labels, value in _samples(device, driver):
            found[name][("gpu", str(device["index"])), *labels] = value
    return render({name: samples for name, samples in found.items() if samples}, GPU)


def _samples(device: Values, driver: str | None) -> Iterator[tuple[str, Labels, float]]:
    """Yield metric, labels and value; a value that the GPU lacks has none."""
    about = {key: device.get(key) or "" for key in ("uuid", "name", "address")}
    yield "imgnode_gpu_info", tuple({**about, "driver": driver or ""}.items()), 1
    yield "imgnode_gpu_lost", (), device.get("lost") is not None
    for reason, holds in (device.get("throttled") or {}).items():
        yield "imgnode_gpu_throttled", (("reason", reason),), holds
    for name, key, factor in _PLAIN:
        if device.get(key) is not None:
            yield name, (), device[key] * factor
    for name, label, keys in _BY_LABEL:
        for word, (key, factor) in keys.items():
            if device.get(key) is not None:
                yield name, ((label, word),), device[key] * factor
