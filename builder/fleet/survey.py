"""How nodes are: what `imgnode status --json` of each says, in a few words."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from builder.core.errors import UserError
from builder.fleet.engine import Answers, Engine
from builder.fleet.job import UNREACHABLE
from builder.fleet.nodes import Node
from builder.fleet.store import Store
from builder.fleet.waves import Candidate

ANSWERS, SILENT = "answers", "silent"
FRESH_S = 900.0


@dataclass(frozen=True)
class Condition:
    """One node: `level` is that of its health; `text` why it does not answer, or is not well."""

    name: str
    answers: bool
    version: str = ""
    serving: str = ""
    level: str = ""
    maintenance: bool = False
    text: str = ""


def condition(name: str, said: Mapping[str, Any]) -> Condition:
    """Return what a node's own words mean."""
    serve, health = said.get("serve") or {}, said.get("health") or {}
    settings = (serve.get("in_force") or {}).get("settings") or {}
    serves = serve.get("state") == "serving" and not said.get("maintenance")
    return Condition(
        name=name,
        answers=True,
        version=str(said.get("version", "")),
        serving=str(settings.get("model") or "") if serves else "",
        level=str(health.get("level", "")),
        maintenance=bool(said.get("maintenance")),
        text=str(serve.get("text", "")) if serve.get("state") == "failed" else "",
    )


def take(nodes: Sequence[Node], answers: Answers) -> dict[str, Condition]:
    """Return the condition of every node, those that do not answer too."""
    found = {}
    for node in nodes:
        said = answers.said.get(node.name)
        if said is not None:
            found[node.name] = condition(node.name, said)
            continue
        result = answers.results.get(node.name)
        text = result.text if result else "no answer"
        kind = result.outcome if result else UNREACHABLE
        found[node.name] = Condition(node.name, answers=False, text=f"{kind}: {text}")
    return found


def survey(nodes: Sequence[Node], engine: Engine, store: Store) -> dict[str, Condition]:
    """Ask all nodes now, and keep what they say. Raises UserError when Ansible does not run."""
    found = take(nodes, engine.run("survey", [node.name for node in nodes], {}))
    kept = {**((store.status() or {}).get("nodes") or {})}
    kept |= {name: asdict(one) for name, one in found.items()}
    store.keep_status({"when": time.time(), "nodes": kept})
    return found


def remembered(
    nodes: Sequence[Node], store: Store, now: float
) -> tuple[dict[str, Condition], float] | None:
    """Return what all nodes said last and how old that is in seconds; None where it is too old."""
    told = store.status()
    if told is None or not 0 <= now - told["when"] < FRESH_S:
        return None
    try:
        kept = {node.name: Condition(**told["nodes"][node.name]) for node in nodes}
    except (KeyError, TypeError):
        return None
    return kept, now - told["when"]


def candidates(nodes: Sequence[Node], known: Mapping[str, Condition]) -> list[Candidate]:
    """Return the nodes as waves are made of them, by what they serve now."""
    return [Candidate(node.name, node.rack, known[node.name].serving) for node in nodes]


def require(known: Mapping[str, Condition]) -> None:
    """Raise UserError where no node at all answers: then it is this machine's fault."""
    if not any(one.answers for one in known.values()):
        first = next(iter(known.values()))
        hint = "the key, known_hosts beside the inventory, the network: ansible -m ping all -vvv"
        raise UserError(f"no node answers; {first.name}: {first.text}", hint=hint)
