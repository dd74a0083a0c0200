"""The node's own metrics, as text files for the node exporter. All names stand here.

A name is a promise to alerts and dashboards: it never changes its meaning.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from imgnode.files import write_atomic

FOLDER = Path("run/imgnode/metrics")
SEED_ERROR = "imgnode_seed_error"
CONFIG_ERRORS = "imgnode_config_errors"
LAYER_FILES = "imgnode_layer_files"
LAYERS_MISSING = "imgnode_layers_missing"
LAYERS_CORRUPT = "imgnode_layers_corrupt"
LAYER_BYTES = "imgnode_layer_bytes"
SERVE_STATE = "imgnode_serve_state"
SERVE_FALLBACK = "imgnode_serve_config_fallback"
SERVE_STARTS_FAILED = "imgnode_serve_starts_failed"
MODEL_READY = "imgnode_model_ready_seconds"
GPU_EXPECTED = "imgnode_gpu_expected"
GPU_FOUND = "imgnode_gpu_found"
GPU_PROBLEMS = "imgnode_gpu_problems"
UPDATE_AVAILABLE = "imgnode_update_available"
UPDATE_CHECKED = "imgnode_update_checked_timestamp_seconds"
UPDATE_ERROR = "imgnode_update_error"
UPDATE_FAILED = "imgnode_update_failed_versions"
MAINTENANCE = "imgnode_maintenance"
STATE_SCHEMA = "imgnode_state_schema"
STATE_SCHEMA_KNOWN = "imgnode_state_schema_known"
HEALTH_LEVEL = "imgnode_health_level"
HEALTH_FINDING = "imgnode_health_finding"
HEALTH_TIME = "imgnode_health_timestamp_seconds"
SERVE_CLASS = "imgnode_serve_class"
GATE_VERDICT = "imgnode_gate_verdict"
GATE_SECONDS = "imgnode_gate_seconds"
BACKUP_SUCCESS = "imgnode_backup_last_success_timestamp_seconds"
BACKUP_VERIFIED = "imgnode_backup_last_verify_timestamp_seconds"
BACKUP_ERROR = "imgnode_backup_error"
BACKUP_BYTES = "imgnode_backup_bytes"
RECOVER_STEPS = "imgnode_recover_steps_total"
RECOVER_ACTIVE = "imgnode_recover_active"
RECOVER_PAUSED = "imgnode_recover_paused"
RECOVER_GIVEN_UP = "imgnode_recover_given_up"
QUARANTINE = "imgnode_quarantine"
ALERTS_FIRING = "imgnode_alerts_firing"
ALERT_FAILURES = "imgnode_alert_delivery_failures"
HELP: Mapping[str, str] = {
    SEED_ERROR: "1 if the seed of this boot is missing or has a mistake, else 0.",
    CONFIG_ERRORS: "Mistakes in the seed of this boot, by key.",
    LAYER_FILES: "Layer files that belong to this version.",
    LAYERS_MISSING: "Layer files of this version that are not mounted, the corrupt ones aside.",
    LAYERS_CORRUPT: "Layer files of this version that are damaged and could not be replaced.",
    LAYER_BYTES: "Bytes of all files in the layer store, those of other versions too.",
    SERVE_STATE: "1 for the state that the inference service is in, 0 for the others.",
    SERVE_FALLBACK: "1 while the last good config is served, not the wanted one, else 0.",
    SERVE_STARTS_FAILED: "Starts of the wanted config that failed since it last came up.",
    UPDATE_AVAILABLE: "1 if the channel has another version than the one that runs, else 0.",
    UPDATE_CHECKED: "When the channel was last read and believed, in seconds since 1970.",
    UPDATE_ERROR: "1 for the reason for which the last run took nothing, 0 for the others.",
    UPDATE_FAILED: "Versions that did not come up on this node and are not taken again.",
    MODEL_READY: "Seconds from the start of the service to its first token, this start.",
    GPU_EXPECTED: "GPUs that the profile says; no sample where any number will do.",
    GPU_FOUND: "GPUs that answer.",
    GPU_PROBLEMS: "What is wrong with the GPUs, by key: how many GPUs, or 1 for the node.",
    MAINTENANCE: "1 while a person has put the node into maintenance, else 0.",
    STATE_SCHEMA: "Form of the state on /var; no sample where it cannot be told.",
    STATE_SCHEMA_KNOWN: "Newest form of the state that this version knows.",
    HEALTH_LEVEL: "How bad it is, by health check: 0 good, 1 a warning, 2 failed.",
    HEALTH_FINDING: "What health checks find now, by check and key: how many times.",
    HEALTH_TIME: "When the health checks last told, in seconds since 1970.",
    SERVE_CLASS: "1 for the class of forward progress that serving is in, 0 for the others.",
    GATE_VERDICT: "1 for the class of this boot's verdict, else 0; all 0 while it is awaited.",
    GATE_SECONDS: "Seconds that the health gate took to its verdict.",
    BACKUP_SUCCESS: "When the last backup was made, in seconds since 1970, by target.",
    BACKUP_VERIFIED: "When the latest backups were last unpacked and found whole, since 1970.",
    BACKUP_ERROR: "1 for each reason why a backup, its trial or its return failed, else 0.",
    BACKUP_BYTES: "Bytes of the backups on the node's own disk.",
    RECOVER_STEPS: "Steps of the recovery ladder that were ever taken on this node.",
    RECOVER_ACTIVE: "1 while recovery takes steps or looks whether they helped, else 0.",
    RECOVER_PAUSED: "1 while recovery is paused by a person or by maintenance, else 0.",
    RECOVER_GIVEN_UP: "Troubles that recovery has no step left for: a person is needed.",
    QUARANTINE: "1 while this node takes no work, else 0.",
    ALERTS_FIRING: "Alerts that are firing, by severity.",
    ALERT_FAILURES: "Deliveries that failed in a row, by channel; 0 after one that worked.",
}
Samples = Mapping[tuple[tuple[str, str], ...], float]


def write(name: str, metrics: Mapping[str, Samples], root: Path = Path("/")) -> None:
    """Write metrics to NAME.prom: by metric, by its labels (pairs of name and value)."""
    write_atomic(root / FOLDER / f"{name}.prom", render(metrics, HELP))


def render(metrics: Mapping[str, Samples], about: Mapping[str, str]) -> str:
    """Return metrics as text (prometheus.io, "Exposition formats"); `about` has a line for each.

    What ends in `_total` is a counter, anything else a gauge. A metric without samples keeps its
    head, so that it is seen to be there.
    """
    lines = []
    for metric, samples in metrics.items():
        lines += [f"# HELP {metric} {about[metric]}", f"# TYPE {metric} {kind(metric)}"]
        for labels, value in samples.items():
            pairs = ",".join(f'{label}="{_escaped(text)}"' for label, text in labels)
            name = f"{metric}{{{pairs}}}" if pairs else metric
            lines.append(f"{name} {value:.15g}")
    return "\n".join(lines) + "\n"


def kind(metric: str) -> str:
    """Return the type of a metric, by the convention for its name."""
    return "counter" if metric.endswith("_total") else "gauge"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
