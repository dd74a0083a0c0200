"""A connection to a simulated node: a folder on this machine, which may be down or never answer."""

from __future__ import annotations

import time
from pathlib import Path

from ansible.errors import AnsibleConnectionFailure
from ansible.plugins.connection.local import Connection as Local

DOCUMENTATION = """
name: simnode
short_description: a folder that plays a node
description: Runs commands here, unless the folder says that the node is down.
author: imgbuild
extends_documentation_fragment: [connection_pipelining]
options:
  root:
    description: the node's folder
    vars: [{name: sim_root}]
  answer:
    description: a file with what every module brings back; then none is run
    default: ""
    vars: [{name: sim_answer}]
"""


class Connection(Local):  # type: ignore[misc]
    """As `local`, but it can fail as a network does."""

    transport = "simnode"

    def exec_command(
        self,
        cmd: str,
        in_data: bytes | None = None,
        sudoable: bool = True,
    ) -> tuple[int, bytes, bytes]:
        """Run a command, where the node answers."""
        root = Path(self.get_option("root"))
        down = root / "down"  # seconds since 1970 until which it does not answer; 0: for ever
        if down.exists():
            until = float(down.read_text())
            if not until or time.time() < until:
                raise AnsibleConnectionFailure(f"{root.name}: no route to host")
        if answer := self.get_option("answer"):
            return 0, Path(answer).read_bytes(), b""
        result: tuple[int, bytes, bytes] = super().exec_command(
            cmd, in_data=in_data, sudoable=sudoable
        )
        return result

    def reset(self) -> None:
        """Connect anew, which is nothing here."""
