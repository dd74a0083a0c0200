"""Reads everything that a start depends on and says what is to be served."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from imgnode import inference
from imgnode.gpu.placement import NoPlace
from imgnode.gpu.placement import choose as choose_gpus
from imgnode.nodeconfig import DEFAULT, read_node
from imgnode.payload import ContainerImage, Payload, read_payload
from imgnode.serve import gpus, override
from imgnode.serve.choice import Choice, Settings, choose, load_attempt, load_proven
from imgnode.serve.command import spread
from imgnode.serve.facts import Facts, read_facts
from imgnode.serve.gpus import Handed

OVERRIDE, PROVEN = "imgnode model set", "proven"


@dataclass(frozen=True)
class Plan:
    """What this start serves, and the container image that serves it."""

    facts: Facts
    payload: Payload
    image: ContainerImage
    choice: Choice


@dataclass(frozen=True)
class Wish:
    """The config that is wanted: the seed's, and what was laid over it by hand.

    `source` is where the seed's part comes from (imgnode/nodeconfig.py). `ignored` says why
    an override is not taken.
    """

    seed: dict[str, Any]
    values: dict[str, Any]
    source: str
    ignored: str | None = None

    @property
    def settings(self) -> dict[str, Any]:
        """The wanted config itself."""
        return override.merge(self.seed, self.values)

    def origin(self, key: str) -> str:
        """Return where the value of a key comes from."""
        return OVERRIDE if key in self.values else self.source


def read_wish(gpus: int | None, root: Path = Path("/")) -> Wish:
    """Return what this node is asked to serve. An override that this image refuses is left out."""
    node = read_node(root)
    seed = node.inference if node else {}
    source = node.source if node else DEFAULT
    values = override.load(seed, root).values
    problem = refusal(override.merge(seed, values), gpus) if values else None
    return Wish(seed, {} if problem else values, source, problem)


def read_plan(root: Path = Path("/")) -> Plan | None:
    """Return the plan, None where there is nothing to serve: no container, or no model.

    Raises OSError or ValueError when the image's own files are damaged.
    """
    payload = read_payload(root)
    if payload.container is None:
        return None
    facts = read_facts(root)
    wanted = read_wish(facts.gpus, root).settings
    if not wanted.get("model"):
        return None
    proven = load_proven(root)
    usable = proven if proven and refusal(proven, facts.gpus) is None else None
    choice = choose(wanted, usable, load_attempt(wanted, root))
    return Plan(facts, payload, payload.container, choice)


def find_gpus(plan: Plan, root: Path = Path("/")) -> Handed | None:
    """Return the GPUs for the container as they are now, None where the profile has none.

    Where they cannot be placed the container gets all: `gpus.check` says what is missing.
    """
    if plan.facts.gpu is None:
        return None
    try:
        placement = choose_gpus(root, *spread(plan.facts, plan.choice.in_force))
    except (NoPlace, OSError, ValueError):
        placement = None
    return gpus.find(plan.facts, plan.image.config, placement, root)


def refusal(settings: Settings, gpus: int | None) -> str | None:
    """Return why this image does not take a config; None where it does."""
    _, problems = inference.check(dict(settings), gpus=gpus)
    return "; ".join(str(one) for one in problems) or None


def show(settings: Settings) -> str:
    """Return the few words by which people know a config."""
    return str(settings.get("model") or "nothing")
