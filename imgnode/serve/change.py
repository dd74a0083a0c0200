"""Changes what this node serves, and takes the change back when it does not come up."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from imgnode import inference, strictyaml
from imgnode.fault import CONFIG, Fault
from imgnode.gate import quarantine
from imgnode.inference import EXAMPLES, KEY
from imgnode.models.mirror import Mirror
from imgnode.models.provide import provide
from imgnode.payload import read_payload
from imgnode.problems import Problem
from imgnode.process import run
from imgnode.serve import choice, override, report
from imgnode.serve.facts import Facts, read_facts
from imgnode.serve.names import HF_TOKEN
from imgnode.serve.override import Override
from imgnode.serve.plan import read_wish

_UNIT = "vllm.service"
_RESTART_S = 120
_POLL_S = 1
_GRACE_S = 120  # around the time that a start may take: stop of the old one, Docker


class Refused(Exception):
    """The change is wrong in itself; nothing was written. One line for each problem."""

    def __init__(self, problems: list[Problem]) -> None:
        super().__init__("\n".join(str(one) for one in problems))


class NotServed(Exception):
    """The change did not come up; the node is back at what it was."""


@dataclass(frozen=True)
class Change:
    """Keys to lay over the seed's config, keys to take back, or all of them."""

    values: Mapping[str, Any]
    back: tuple[str, ...] = ()
    back_all: bool = False


def parse(pairs: list[str]) -> dict[str, Any]:
    """Return what KEY=VALUE words mean; VALUE is read as a seed is, KEY may be `env.NAME`.

    `null` takes the seed's own value away. Raises Refused.
    """
    values: dict[str, Any] = {}
    problems = []
    for pair in pairs:
        key, equals, text = pair.partition("=")
        first, dot, inner = key.partition(".")
        refused: list[strictyaml.Refused] = []
        try:
            value = strictyaml.parse(text, refused.append)
        except strictyaml.NotYaml as error:
            _, fact, hint = strictyaml.explain(text, error)
            problems.append(Problem(f"{KEY}.{key}", fact, hint))
            continue
        problems += [Problem(f"{KEY}.{key}", one.fact, one.hint) for one in refused]
        if not equals:
            problems.append(Problem(key, "no value", "write KEY=VALUE"))
        elif dot:
            values[first] = {**_inner(values, first), inner: value}
        else:
            values[first] = value
    if problems:
        raise Refused(problems)
    return values


def apply(change: Change, root: Path = Path("/"), *, wait: bool = True) -> str:
    """Write the override, restart the service, wait for its first token; return what is served.

    Raises Refused, NotServed, or OSError.
    """
    _refuse_quarantine(root)
    facts = read_facts(root)
    seed = read_wish(facts.gpus, root).seed
    before = override.load(seed, root)
    after = Override(before.seed, _changed(before.values, change))
    wanted = override.merge(seed, after.values)
    judge({key: None for key, one in after.values.items() if one is None}, None)
    judge(wanted, facts.gpus)
    _bring(wanted, facts, root)
    override.save(after, root)
    choice.forget(wanted, root)
    began = time.monotonic()
    _restart()
    if not wait or not wanted.get("model"):
        return f"restarted {_UNIT}"
    why = _wait(wanted, began, facts.serve.start_timeout_s + _GRACE_S, root)
    if why is None:
        return f"serving {wanted['model']}"
    override.save(before, root)
    _restart()
    raise NotServed(f"{why}; back at what was served before")


def _bring(wanted: Mapping[str, Any], facts: Facts, root: Path) -> None:
    """Have the model on this node before the old one stops.

    Where a secret is needed to fetch it, only the service can. Raises Refused for a model
    that is nowhere, NotServed for one that cannot be had now.
    """
    if not wanted.get("model"):
        return
    mirror = Mirror(facts.models) if facts.models else None
    if mirror and HF_TOKEN in (wanted.get("env") or {}):
        return
    try:
        provide(wanted["model"], wanted.get("revision"), read_payload(root), mirror, root)
    except Fault as fault:
        if fault.kind == CONFIG:
            raise Refused([Problem(f"{KEY}.model", str(fault))]) from None
        raise NotServed(f"{fault}; nothing was changed") from None


def judge(values: Mapping[str, Any], gpus: int | None) -> None:
    """Judge a config as a seed's; a key that is taken away must be a known one. Raises Refused."""
    given = {key: EXAMPLES.get(key) if one is None else one for key, one in values.items()}
    _, problems = inference.check(given, gpus=gpus)
    if problems:
        raise Refused(problems)


def retry(root: Path = Path("/")) -> None:
    """Give the wanted config three new tries, now. Raises NotServed or OSError."""
    _refuse_quarantine(root)
    choice.forget(read_wish(read_facts(root).gpus, root).settings, root)
    _restart()


def _refuse_quarantine(root: Path) -> None:
    """Change nothing on a node that may not serve. Raises NotServed."""
    why = quarantine.read(root)
    if why is not None:
        hint = quarantine.hint(root)
        raise NotServed(f"the node is in quarantine: {why}; nothing was changed (hint: {hint})")


def _changed(values: Mapping[str, Any], change: Change) -> dict[str, Any]:
    if change.back_all:
        return {}
    kept = {key: one for key, one in values.items() if key not in change.back}
    for key in change.back:
        first, _, inner = key.partition(".")
        if inner and isinstance(kept.get(first), Mapping):
            rest = {name: one for name, one in kept[first].items() if name != inner}
            kept = {**kept, first: rest} if rest else _without(kept, first)
    for key, value in change.values.items():
        old = kept.get(key)
        if isinstance(old, Mapping) and isinstance(value, Mapping) and key != "api_key":
            value = {**old, **value}  # noqa: PLW2901
        kept[key] = value
    return kept


def _inner(values: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    inner = values.get(key)
    return inner if isinstance(inner, Mapping) else {}


def _without(values: Mapping[str, Any], key: str) -> dict[str, Any]:
    return {name: one for name, one in values.items() if name != key}


def _restart() -> None:
    """Have systemd restart the service. Raises NotServed."""
    run(["systemctl", "reset-failed", _UNIT], timeout_s=_RESTART_S)
    done = run(["systemctl", "restart", "--no-block", _UNIT], timeout_s=_RESTART_S)
    if done.rc:
        raise NotServed(f"systemctl restart {_UNIT}: {done.stderr.strip()}")


def _wait(wanted: Mapping[str, Any], began: float, limit_s: float, root: Path) -> str | None:
    """Wait for the first token; return why it did not come, None when it did.

    The time of fetching the model, or of copying the image, does not count.
    """
    name, spent = choice.digest(wanted), 0
    while spent < limit_s:
        time.sleep(_POLL_S)
        told = report.read(root)
        if told is None or (told["began"] or 0) < began or told["wanted"]["digest"] != name:
            spent += _POLL_S
        elif told["state"] == report.FAILED:
            return f"{told['error']['kind']}: {told['error']['text']}"
        elif told["fallback"]:
            return f"the node falls back: {told['error']['text'] if told['error'] else ''}"
        elif told["state"] == report.SERVING:
            return None
        elif told["phase"] not in report.UNTIMED:
            spent += _POLL_S
    return f"no token within {limit_s:g} s"
