"""Every metric of this exporter. A name is a promise to alerts and dashboards.

The series of vLLM keep vLLM's own names (vllm/v1/metrics/loggers.py of 0.32.0). The reference
(docs/reference/metrics.md) is made of this file and of imgnode/metrics.py.
"""

from __future__ import annotations

from collections.abc import Mapping

GPU: Mapping[str, str] = {
    "imgnode_gpu_info": "1 for each GPU, with its UUID, name, PCI address and driver.",
    "imgnode_gpu_lost": "1 if the GPU does not answer any more, else 0.",
    "imgnode_gpu_utilization_ratio": "Share of the last moment in which a kernel ran.",
    "imgnode_gpu_memory_utilization_ratio": "Share of the last moment in which memory was busy.",
    "imgnode_gpu_memory_used_bytes": "Memory that is taken, the driver's own share too.",
    "imgnode_gpu_memory_total_bytes": "Memory that the GPU has.",
    "imgnode_gpu_temperature_celsius": "Temperature of the chip.",
    "imgnode_gpu_memory_temperature_celsius": "Temperature of the memory.",
    "imgnode_gpu_power_watts": "Power that the board draws.",
    "imgnode_gpu_power_limit_watts": "Power that the board may draw.",
    "imgnode_gpu_energy_joules_total": "Energy drawn since the driver came up.",
    "imgnode_gpu_clock_hertz": "Clock of the multiprocessors (sm) and of the memory.",
    "imgnode_gpu_throttled": "1 for each reason that holds the clocks down now, else 0.",
    "imgnode_gpu_ecc_errors_total": "Memory errors since the driver came up, by type.",
    "imgnode_gpu_ecc_lifetime_errors_total": "Memory errors since the board was made, by type.",
    "imgnode_gpu_remapped_rows_total": "Rows of memory that were replaced, by type of error.",
    "imgnode_gpu_row_remap_pending": "1 if a row is replaced at the next reset, else 0.",
    "imgnode_gpu_row_remap_failed": "1 if a row could not be replaced, else 0.",
    "imgnode_gpu_pcie_replays_total": "PCIe packets sent again since the driver came up.",
    "imgnode_gpu_pcie_link_width": "PCIe lanes in use.",
    "imgnode_gpu_pcie_link_generation": "PCIe generation in use.",
    "imgnode_gpu_nvlink_errors_total": "NVLink errors of all links of the GPU, by type.",
    "imgnode_gpu_processes": "Processes that compute on the GPU.",
}
VLLM: Mapping[str, str] = {
    "imgnode_vllm_generation_tokens_per_second": "Tokens made, over the last seconds.",
    "imgnode_vllm_prompt_tokens_per_second": "Tokens read, over the last seconds.",
}
NODE: Mapping[str, str] = {
    "imgnode_image_info": "1, with image, version, slot and root hash of what runs.",
    "imgnode_boot_tries_left": "Boots left when this one began; no sample for a good version.",
    "imgnode_var_volatile": "1 if /var could not be mounted and lies in memory, else 0.",
    "imgnode_xid_total": "Xid errors in the kernel log, by GPU and number; of earlier boots, too.",
}
SELF: Mapping[str, str] = {
    "imgnode_exporter_collector_success": "1 if the collector has fresh values, else 0.",
    "imgnode_exporter_collector_timestamp_seconds": "When it last had them, since 1970.",
    "process_cpu_seconds_total": "Processor time of the exporter, without its child.",
    "process_resident_memory_bytes": "Memory of the exporter, without its child.",
}
COLLECTORS = ("gpu", "vllm")

# What is passed on of vLLM's page: the name of a family, its type, what it is.
PASSED: Mapping[str, tuple[str, str]] = {
    "vllm:num_requests_running": ("gauge", "Requests that are being answered."),
    "vllm:num_requests_waiting": ("gauge", "Requests that wait."),
    "vllm:kv_cache_usage_perc": ("gauge", "Share of the KV cache in use; 1 is all of it."),
    "vllm:engine_sleep_state": ("gauge", "Whether the engine is awake."),
    "vllm:num_preemptions_total": ("counter", "Requests put back for want of KV cache."),
    "vllm:prompt_tokens_total": ("counter", "Tokens read."),
    "vllm:generation_tokens_total": ("counter", "Tokens made."),
    "vllm:prefix_cache_queries_total": ("counter", "Tokens looked for in the prefix cache."),
    "vllm:prefix_cache_hits_total": ("counter", "Of these, tokens found."),
    "vllm:request_success_total": ("counter", "Requests answered, by reason of their end."),
    "vllm:time_to_first_token_seconds": ("histogram", "From the request to its first token."),
    "vllm:inter_token_latency_seconds": ("histogram", "From one token to the next."),
    "vllm:e2e_request_latency_seconds": ("histogram", "From the request to its last token."),
    "vllm:request_queue_time_seconds": ("histogram", "How long a request waited."),
}
HELP: Mapping[str, str] = {**GPU, **VLLM, **NODE, **SELF}
