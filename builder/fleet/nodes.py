"""The nodes of an inventory: what imgbuild reads of Ansible's variables."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from builder.core.errors import ConfigError

_PORT = 8000


class Node(BaseModel):
    """One node; all other variables of the inventory are Ansible's and the playbooks' own.

    `inference` and `seed` are checked when seeds are rendered, by the model of `seed check`.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    name: str
    address: str = Field(alias="ansible_host")
    profile: str | None = None
    channel: str | None = None
    rack: str = ""
    port: int = Field(default=_PORT, alias="fleet_probe_port", ge=1, le=65535)
    inference: dict[str, Any] = Field(default_factory=dict)
    seed: dict[str, Any] = Field(default_factory=dict)

    @property
    def model(self) -> str:
        """What the inventory wants the node to serve; empty for nothing."""
        return str(self.inference.get("model") or "")


def parse(listed: Mapping[str, Any]) -> tuple[Node, ...]:
    """Return the nodes of what `ansible-inventory --list` prints, by name.

    Raises ConfigError with every variable that is of another kind than it must be.
    """
    found: list[Node] = []
    problems: list[str] = []
    names = {host for group in listed.values() for host in group.get("hosts", ())}
    variables = listed.get("_meta", {}).get("hostvars", {})
    for name in sorted(names):
        values = {"ansible_host": name, **variables.get(name, {}), "name": name}
        try:
            found.append(Node(**values))
        except ValidationError as error:
            for one in error.errors():
                where = ".".join(str(part) for part in one["loc"])
                problems.append(f"inventory: {name}: {where}: {one['msg']}")
    if problems:
        raise ConfigError(problems)
    return tuple(found)
