"""A desk of the provisioning server for unit tests: a plan in memory, state in a folder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from builder.core.errors import UserError
from builder.serve.desk import Ask, Desk, Refusal, Seed, Sources
from builder.serve.identity import Identity, make_identity
from builder.serve.inventory import Inventory
from builder.serve.records import Store
from builder.serve.settings import Plan, parse_plan
from builder.serve.tokens import Tokens

MAC, OTHER, UUID = "52:54:00:00:00:07", "52:54:00:00:00:08", "4c4c4544-0000-1111-2222-333333333333"
SERVER = {"interface": "eth1", "releases": "releases", "installer": "installer.efi"}
NODES: Mapping[str, Any] = {
    "gpu-07": {"mac": MAC, "seed": "plain"},
    "gpu-08": {"serial": "S8", "seed": "secret"},
    "gpu-09": {"uuid": UUID, "seed": "bad"},
    "gpu-10": {"serial": "S10", "version": "2"},
}


def plan(nodes: Mapping[str, Any] = NODES, **server: object) -> Plan:
    """Return a plan with these nodes, which become cpu nodes."""
    values = {"server": {**SERVER, **server}, "defaults": {"profile": "cpu"}, "nodes": nodes}
    return parse_plan("plan.yaml", values)


def who(serial: str = "", uuid: str = "", *macs: str) -> Identity:
    return make_identity(serial, uuid, macs)


@dataclass
class Clock:
    now: float = 1_000_000.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Room:
    """A desk, its clock, and what channels are at."""

    folder: Path
    desk: Desk
    clock: Clock
    versions: dict[str, str] = field(default_factory=dict)

    def ask(self, identity: Identity, token: str = "") -> dict[str, Any]:
        """Return the order of a machine that gets one."""
        found = self.desk.order(Ask(identity, "10.9.0.50", token))
        assert not isinstance(found, Refusal), found
        return found

    def refused(self, identity: Identity, token: str = "") -> Refusal:
        found = self.desk.order(Ask(identity, "10.9.0.50", token))
        assert isinstance(found, Refusal), found
        return found


def room(folder: Path, nodes: Mapping[str, Any] = NODES, **server: object) -> Room:
    """Return a desk below `folder`."""
    made, clock, versions = plan(nodes, **server), Clock(), dict[str, str]()
    store = Store(folder)
    store.prepare()

    def seed(name: str) -> Seed:
        kind = made.nodes[name].seed
        if kind == "bad":
            raise UserError("bad.yaml: hostname: is no name")
        return Seed({"user-data": f"{kind} of {name}"} if kind else {}, secret=kind == "secret")

    base = "http://10.9.0.1"
    sources = Sources(base, f"{base}/releases", seed, lambda image, _: versions.get(image))
    desk = Desk(Inventory.of(made), store, Tokens(folder / "tokens"), sources, clock)
    return Room(folder, desk, clock, versions)
