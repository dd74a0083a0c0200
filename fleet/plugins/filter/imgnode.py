"""What playbooks ask of a node's own words: its state, and why a command of it failed."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

from imgnode.release.versions import is_older

_REFUSED = re.compile(r"^(?:<3>)?update: ([a-z-]+): ", re.MULTILINE)
_FULL = ("space", "too-large")
_LENGTH = 400
# Who notices first that an asynchronous task has no end: Ansible, or its wrapper on the node.
_NO_END = ("async task did not complete", "Timeout exceeded")


def sick(status: Mapping[str, Any]) -> str:
    """Return why a node does not do its work by `imgnode status --json`; empty when it does."""
    health, serve = status.get("health"), status.get("serve")
    if status.get("seed_errors"):
        return f"seed: {status['seed_errors'][0]['text']}"
    if serve is not None and serve["state"] not in ("serving", "skipped"):
        return f"serve: {serve['state']}: {serve['text']}"
    if serve is not None and serve["fallback"]:
        return "serve: it fell back to the last good config"
    if health is None:
        return "health: not watched yet"
    if health["level"] == "failed":
        found = [
            f"{name}: {one['fact']}"
            for name, check in health["checks"].items()
            for one in check["findings"]
            if one["level"] == "failed"
        ]
        return f"health: {'; '.join(found) or 'failed'}"
    return ""


def outcome(result: Mapping[str, Any], stage: str) -> str:
    """Return in one word why a task failed; `stage` is how far the node had got.

    full, refused: nothing was changed. hung: no end in time. sick, failed: before anything was
    done. bad: after.
    """
    said = f"{result.get('stderr', '')}\n{result.get('msg', '')}"
    refused = _REFUSED.search(said)
    if "No space left on device" in said or (refused and refused[1] in _FULL):
        return "full"
    if _hung(result):
        return "hung"
    if refused:
        return "refused"
    return {"before": "sick", "after": "bad"}.get(stage, "failed")


def _hung(result: Mapping[str, Any]) -> bool:
    return "timedout" in result or any(one in str(result.get("msg")) for one in _NO_END)


def text(result: Mapping[str, Any], task: str = "") -> str:
    """Return in one line what a failed task said; of one without an end, which one it was."""
    if _hung(result):
        return f"no end in time: {task}"
    said = str(result.get("stderr") or "").strip() or str(result.get("msg") or "")
    return " ".join(said.removeprefix("<3>").split())[:_LENGTH] or "no reason was given"


def pair(item: Mapping[str, Any]) -> str:
    """Return KEY=VALUE for `imgnode model set` of one entry of `dict2items`; JSON is YAML."""
    return f"{item['key']}={json.dumps(item['value'])}"


def has(settings: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    """Tell whether a node wants all this already; null means that it wants no such key."""
    return all(settings.get(key) == value for key, value in wanted.items())


def behind(version: str, wanted: str) -> bool:
    """Tell whether a node's version is older than the wanted one."""
    return is_older(version, wanted)


class FilterModule:
    """Ansible's way of finding them."""

    def filters(self) -> dict[str, Callable[..., object]]:
        """Return the filters by name."""
        return {
            "imgnode_sick": sick,
            "imgnode_outcome": outcome,
            "imgnode_text": text,
            "imgnode_behind": behind,
            "imgnode_pair": pair,
            "imgnode_has": has,
        }
