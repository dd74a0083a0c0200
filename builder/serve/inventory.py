"""Finds the node that a machine is."""

from __future__ import annotations

from dataclasses import dataclass, field

from builder.serve.identity import Identity
from builder.serve.settings import Plan


@dataclass(frozen=True)
class Found:
    """The name of a node; None for a machine that is none, or could be several (`others`)."""

    name: str | None
    others: tuple[str, ...] = ()


@dataclass(frozen=True)
class Inventory:
    """The nodes of a plan, by what they are known by."""

    plan: Plan
    _owners: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, plan: Plan) -> Inventory:
        """Return the inventory of a plan."""
        owners = {word: name for name, node in plan.nodes.items() for word in node.words}
        return cls(plan, owners)

    def find(self, who: Identity) -> Found:
        """Return the node that a machine is.

        What a node is said to have must not be otherwise: a board that was moved into another
        chassis is no node, rather than a wrong one.
        """
        owners = (self._owners.get(word) for word in who.words)
        names = tuple(dict.fromkeys(name for name in owners if name))
        if len(names) != 1:
            return Found(None, names)
        node = self.plan.nodes[names[0]]
        differs = (node.serial and who.serial and node.serial != who.serial) or (
            node.uuid and who.uuid and node.uuid != who.uuid
        )
        return Found(None, names) if differs else Found(names[0])
