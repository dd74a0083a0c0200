"""The dashboards: one node, the fleet, and what to plan by."""

from __future__ import annotations

from monitoring.panels import Panel, Row, dashboard

_I = 'instance="$instance"'


def _quantile(share: float, name: str) -> str:
    buckets = f"sum by (le) (rate(vllm:{name}_bucket{{{_I}}}[5m]))"
    return f"histogram_quantile({share}, {buckets})"


def _per_gpu(title: str, name: str, unit: str, top: float | None = None) -> Panel:
    return Panel(title, ((f"{name}{{{_I}}}", "GPU {{gpu}}"),), unit, top=top)


def _latency(title: str, name: str) -> Panel:
    asks = tuple((_quantile(share, name), f"p{share * 100:g}") for share in (0.5, 0.95, 0.99))
    return Panel(title, asks, "s")


def _stat(title: str, expr: str, legend: str = "", unit: str = "short") -> Panel:
    return Panel(title, ((expr, legend),), unit, "stat", 4)


NODE = (
    Row(
        "State",
        (
            _stat("Version", f"imgnode_image_info{{{_I}}}", "{{version}} in {{slot}}"),
            _stat("Gate", f"imgnode_gate_verdict{{{_I}}} == 1", "{{class}}"),
            _stat("Serving", f"imgnode_serve_state{{{_I}}} == 1", "{{state}}"),
            _stat("GPUs that answer", f"imgnode_gpu_found{{{_I}}}"),
            _stat("GPU problems", f"sum(imgnode_gpu_problems{{{_I}}})"),
            _stat("Tries left", f"imgnode_boot_tries_left{{{_I}}}"),
        ),
    ),
    Row(
        "Serving",
        (
            Panel(
                "Tokens per second",
                (
                    (f"sum(rate(vllm:generation_tokens_total{{{_I}}}[1m]))", "made"),
                    (f"sum(rate(vllm:prompt_tokens_total{{{_I}}}[1m]))", "read"),
                ),
            ),
            Panel(
                "Requests",
                (
                    (f"sum(vllm:num_requests_running{{{_I}}})", "running"),
                    (f"sum(vllm:num_requests_waiting{{{_I}}})", "waiting"),
                ),
            ),
            Panel(
                "KV cache and prefix cache",
                (
                    (f"avg(vllm:kv_cache_usage_perc{{{_I}}})", "KV cache in use"),
                    (
                        f"sum(rate(vllm:prefix_cache_hits_total{{{_I}}}[5m]))"
                        f" / sum(rate(vllm:prefix_cache_queries_total{{{_I}}}[5m]))",
                        "prefix cache hits",
                    ),
                ),
                "percentunit",
                top=1,
            ),
            _latency("Time to first token", "time_to_first_token_seconds"),
            _latency("Between tokens", "inter_token_latency_seconds"),
            _latency("Whole request", "e2e_request_latency_seconds"),
        ),
    ),
    Row(
        "GPUs",
        (
            _per_gpu("Utilization", "imgnode_gpu_utilization_ratio", "percentunit", 1),
            _per_gpu("Memory in use", "imgnode_gpu_memory_used_bytes", "bytes"),
            _per_gpu("Memory busy", "imgnode_gpu_memory_utilization_ratio", "percentunit", 1),
            _per_gpu("Temperature", "imgnode_gpu_temperature_celsius", "celsius"),
            _per_gpu("Power", "imgnode_gpu_power_watts", "watt"),
            Panel(
                "Clock",
                ((f'imgnode_gpu_clock_hertz{{{_I}, clock="sm"}}', "GPU {{gpu}}"),),
                "hertz",
            ),
            Panel(
                "Held down by",
                ((f"sum by (reason) (imgnode_gpu_throttled{{{_I}}})", "{{reason}}"),),
            ),
            Panel(
                "Memory errors",
                (
                    (f"imgnode_gpu_ecc_errors_total{{{_I}}} > 0", "GPU {{gpu}} {{type}}"),
                    (f"imgnode_gpu_remapped_rows_total{{{_I}}} > 0", "GPU {{gpu}} rows, {{type}}"),
                ),
            ),
            Panel(
                "Links and Xids",
                (
                    (f"imgnode_gpu_nvlink_errors_total{{{_I}}} > 0", "GPU {{gpu}} NVLink {{type}}"),
                    (f"imgnode_gpu_pcie_replays_total{{{_I}}} > 0", "GPU {{gpu}} PCIe replays"),
                    (f"imgnode_xid_total{{{_I}}}", "Xid {{xid}} at {{address}}"),
                ),
            ),
        ),
    ),
    Row(
        "System",
        (
            Panel(
                "Processors and memory",
                (
                    (f"instance:node_cpu_busy:ratio5m{{{_I}}}", "processors busy"),
                    (f"1 - instance:node_memory_available:ratio{{{_I}}}", "memory in use"),
                    (f"1 - instance:node_var_available:ratio{{{_I}}}", "/var in use"),
                ),
                "percentunit",
                top=1,
            ),
            Panel(
                "Network",
                (
                    (f"sum(rate(node_network_receive_bytes_total{{{_I}}}[1m]))", "in"),
                    (f"sum(rate(node_network_transmit_bytes_total{{{_I}}}[1m]))", "out"),
                ),
                "Bps",
            ),
            Panel(
                "Pressure (share of time that something waited)",
                (
                    (f"rate(node_pressure_cpu_waiting_seconds_total{{{_I}}}[1m])", "processors"),
                    (f"rate(node_pressure_memory_waiting_seconds_total{{{_I}}}[1m])", "memory"),
                    (f"rate(node_pressure_io_waiting_seconds_total{{{_I}}}[1m])", "disk"),
                ),
                "percentunit",
            ),
        ),
    ),
)
FLEET = (
    Row(
        "State",
        (
            _stat("Nodes", "count(imgnode_image_info)"),
            _stat("Serving", "fleet:imgnode_nodes_serving:count"),
            _stat("Not answering", 'count(up{job=~"node|imgnode"} == 0) or vector(0)'),
            _stat("Alerts", 'count(ALERTS{alertstate="firing"}) or vector(0)'),
            _stat("Tokens per second", "fleet:vllm_generation_tokens:rate5m"),
            _stat("Power", "fleet:imgnode_gpu_power_watts:sum", unit="watt"),
        ),
    ),
    Row(
        "Nodes",
        (
            Panel("Versions", (("count by (version) (imgnode_image_info)", ""),), kind="table"),
            Panel(
                "Verdicts other than ok",
                (('imgnode_gate_verdict{class!="ok"} == 1', ""),),
                kind="table",
            ),
            Panel("GPU problems", (("imgnode_gpu_problems > 0", ""),), kind="table"),
            Panel(
                "Not serving", (('imgnode_serve_state{state!="serving"} == 1', ""),), kind="table"
            ),
            Panel("Updates on offer", (("imgnode_update_available == 1", ""),), kind="table"),
            Panel("On trial", (("imgnode_boot_tries_left", ""),), kind="table"),
        ),
    ),
    Row(
        "Load",
        (
            Panel(
                "Tokens per second", (("instance:vllm_generation_tokens:rate5m", "{{instance}}"),)
            ),
            Panel(
                "Requests that wait", (("instance:vllm_requests_waiting:avg5m", "{{instance}}"),)
            ),
            Panel(
                "Time to first token, p95",
                (("instance:vllm_time_to_first_token_seconds:p95_5m", "{{instance}}"),),
                "s",
            ),
            Panel(
                "Between tokens, p95",
                (("instance:vllm_inter_token_latency_seconds:p95_5m", "{{instance}}"),),
                "s",
            ),
            Panel(
                "Whole request, p95",
                (("instance:vllm_e2e_request_latency_seconds:p95_5m", "{{instance}}"),),
                "s",
            ),
            Panel(
                "All nodes: tokens per second",
                (
                    ("fleet:vllm_generation_tokens:rate5m", "made"),
                    ("fleet:vllm_prompt_tokens:rate5m", "read"),
                ),
            ),
            Panel(
                "GPU utilization",
                (("instance:imgnode_gpu_utilization:avg5m", "{{instance}}"),),
                "percentunit",
                top=1,
            ),
            Panel(
                "KV cache in use",
                (("instance:vllm_kv_cache_usage:avg5m", "{{instance}}"),),
                "percentunit",
                top=1,
            ),
            Panel(
                "Hottest GPU",
                (("max by (instance) (imgnode_gpu_temperature_celsius)", "{{instance}}"),),
                "celsius",
            ),
        ),
    ),
)
CAPACITY = (
    Row(
        "The fleet",
        (
            Panel(
                "GPU utilization",
                (
                    ("fleet:imgnode_gpu_utilization:avg5m", "now"),
                    ("fleet:imgnode_gpu_utilization:avg1d", "mean of a day"),
                    ("fleet:imgnode_gpu_utilization:p95_1d", "busiest hour of a day (p95)"),
                    ("fleet:imgnode_gpu_utilization:in14d", "mean in 14 days, as it goes on"),
                ),
                "percentunit",
                width=12,
                top=1,
            ),
            Panel(
                "KV cache in use",
                (
                    ("fleet:vllm_kv_cache_usage:avg5m", "now"),
                    ("fleet:vllm_kv_cache_usage:p95_1d", "busiest hour of a day (p95)"),
                ),
                "percentunit",
                width=12,
                top=1,
            ),
            Panel(
                "Tokens made per second",
                (
                    ("fleet:vllm_generation_tokens:rate5m", "now"),
                    ("fleet:vllm_generation_tokens:max1d", "most of a day"),
                ),
                width=12,
            ),
            Panel(
                "Tokens made per joule",
                (("fleet:vllm_generation_tokens:per_joule", "all nodes"),),
                width=12,
            ),
        ),
    ),
    Row(
        "By node",
        (
            Panel(
                "GPU utilization at the busiest hour (p95 of a day)",
                (("instance:imgnode_gpu_utilization:p95_1d", "{{instance}}"),),
                "percentunit",
                top=1,
            ),
            Panel(
                "GPU memory in use",
                (("instance:imgnode_gpu_memory_used:ratio", "{{instance}}"),),
                "percentunit",
                top=1,
            ),
            Panel(
                "Requests that wait", (("instance:vllm_requests_waiting:avg5m", "{{instance}}"),)
            ),
        ),
    ),
)


def texts() -> dict[str, str]:
    """Return the dashboards by the name of their file."""
    return {
        "node.json": dashboard("imgbuild-node", "Inference node", NODE, by_node=True),
        "fleet.json": dashboard("imgbuild-fleet", "Inference fleet", FLEET, by_node=False),
        "capacity.json": dashboard("imgbuild-capacity", "Capacity", CAPACITY, by_node=False),
    }
