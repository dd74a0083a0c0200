"""Where the fleet's files lie: Ansible's folder, an inventory, and what is remembered of it."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from builder.core.errors import UserError
from builder.core.process import CommandError, Runner
from builder.fleet.nodes import Node, parse

_LIST_S = 120
_BIN = Path(sys.executable).parent


@dataclass(frozen=True)
class Place:
    """`folder` has ansible.cfg and playbooks; `state` is where jobs and answers are kept."""

    folder: Path
    inventory: Path
    state: Path

    @property
    def playbooks(self) -> Path:
        """Ansible's playbooks."""
        return self.folder / "playbooks"

    @property
    def home(self) -> Path:
        """The inventory's folder, with known_hosts; Ansible runs there."""
        return self.inventory if self.inventory.is_dir() else self.inventory.parent

    def environment(self) -> dict[str, str]:
        """Return the variables that Ansible needs to find all this; a person's own stay."""
        path = os.environ.get("PATH", "/usr/bin:/bin")
        own = {
            name: value
            for name, value in os.environ.items()
            if name.startswith("ANSIBLE_") or name == "HOME"  # such as a vault's password file
        }
        return own | {
            "ANSIBLE_CONFIG": str(self.folder / "ansible.cfg"),
            "ANSIBLE_HOME": str(self.state / "ansible"),
            # ansible-runner switches it off where it is not said.
            "ANSIBLE_HOST_KEY_CHECKING": "True",
            # Short, as a unix socket wants it; nobody else leads a connection through here.
            "ANSIBLE_SSH_CONTROL_PATH_DIR": "~/.ansible/imgbuild",
            "PATH": f"{_BIN}:{path}",
        }


def read_nodes(place: Place, runner: Runner, limit: str | None = None) -> tuple[Node, ...]:
    """Return the nodes of the inventory, or those that Ansible's pattern `limit` names.

    Raises UserError for an inventory that is not there or that Ansible does not take.
    """
    if not place.inventory.exists():
        hint = "-i FILE; fleet/inventory.yml is an example"
        raise UserError(f"{place.inventory}: no such inventory", hint=hint)
    argv = [str(_BIN / "ansible-inventory"), "-i", str(place.inventory), "--list"]
    argv += ["--limit", limit] if limit else []
    try:
        done = runner.run(argv, env=place.environment(), timeout_s=_LIST_S)
    except CommandError as error:
        raise UserError(f"{place.inventory}: Ansible does not take it\n{error.output}") from None
    listed: Mapping[str, Mapping[str, object]] = json.loads(done.stdout)
    nodes = parse(listed)
    if not nodes:
        what = f"no node fits {limit}" if limit else "no nodes"
        said = f"\n{done.stderr}".rstrip()
        raise UserError(f"{place.inventory}: {what}{said}", hint="ansible-inventory --graph")
    return nodes
